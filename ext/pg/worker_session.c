/*
 * worker_session.c
 *	  What a background worker needs to run SQL: a session that is the same
 *	  whatever the database's and the roles' settings are, and transactions
 *	  whose errors do not end the process.
 */
#include "worker.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Pauses after an error grow from the first to the second, milliseconds. */
#define SHORTEST_PAUSE 100
#define LONGEST_PAUSE 10000

/*
 * A database or a role may have settings for its users that would make the
 * work of a worker fail, or mean something else.
 */
static const char *const settings[][2] = {
	{"search_path", "pg_catalog"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"lock_timeout", "0"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"transaction_timeout", "0"},
	{"session_replication_role", "origin"},
	{"synchronous_commit", "off"},
	{"DateStyle", "ISO"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"lc_monetary", "C"},
	{"row_security", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"jit", "off"},
	{"application_name", "pg_courier worker"},
};

/* Acts as the role that owns the extension from now on, if there is one. */
static void
become_owner(void)
{
	Oid			owner = InvalidOid;

	courier_worker_begin("look for the extension");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT extowner FROM pg_catalog.pg_extension"
					" WHERE extname = 'pg_courier'", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_extension");
	if (SPI_processed == 1)
	{
		bool		isnull;

		owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc, 1,
											   &isnull));
	}
	SPI_finish();
	if (OidIsValid(owner))
		SetSessionAuthorization(owner, superuser_arg(owner));
	courier_worker_commit();
}

/*
 * A role that is acted as need not be allowed to log in, hence nobody connects
 * as it at once.
 */
static void
connect_database(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	for (Size i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1],
								 PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET,
								 true, DEBUG1, false);
}

/* Connects to a database as the role that owns the extension. */
void
courier_worker_connect(Oid database)
{
	connect_database(database);
	become_owner();
}

/* … as some role. */
void
courier_worker_connect_as(Oid database, Oid role)
{
	connect_database(database);
	courier_worker_begin("become a role");
	SetSessionAuthorization(role, superuser_arg(role));
	courier_worker_commit();
}

/* Begins a transaction; what it is for is shown in pg_stat_activity. */
void
courier_worker_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	debug_query_string = activity;
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
courier_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * In PG_CATCH(): aborts the transaction, if there is one, and returns the
 * error in a context.
 */
ErrorData *
courier_worker_catch(MemoryContext context)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	return error;
}

/* Writes an error into the server's log as a warning. */
void
courier_worker_log(ErrorData *error)
{
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal("%s: %s", MyBgworkerEntry->bgw_name,
							 error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0,
			 errhidestmt(true)));
}

/* Is the extension there?  In a transaction. */
bool
courier_worker_extension_exists(void)
{
	return OidIsValid(get_extension_oid("pg_courier", true));
}

/*
 * Writes an error down where subscription_status shows it.  An error in doing
 * so is only logged: there is already one to care for.
 */
void
courier_worker_report(int subscription, const char *message,
					  const char *sqlstate, const char *hint, long pause_ms)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		Oid			types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
		Datum		values[5];
		char		nulls[] = "     ";

		courier_worker_begin("report an error");
		values[0] = Int32GetDatum(subscription);
		values[1] = CStringGetTextDatum(message);
		values[2] = CStringGetTextDatum(sqlstate);
		values[3] = hint == NULL ? (Datum) 0 : CStringGetTextDatum(hint);
		if (hint == NULL)
			nulls[3] = 'n';
		values[4] = Int32GetDatum((int32) pause_ms);
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "could not connect to SPI");
		if (SPI_execute_with_args("SELECT courier.report_worker($1, $2, $3, $4, $5)",
								  5, types, values, nulls, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not write an error down");
		SPI_finish();
		courier_worker_commit();
	}
	PG_CATCH();
	{
		courier_worker_log(courier_worker_catch(context));
	}
	PG_END_TRY();
}

/* The pause after so many failures in a row, milliseconds. */
long
courier_worker_pause(int failures)
{
	long		pause = SHORTEST_PAUSE;

	while (--failures > 0 && pause < LONGEST_PAUSE)
		pause *= 2;
	return Min(pause, LONGEST_PAUSE);
}

/* Where nothing is under way: ends without a word in the log, if it is to. */
void
courier_worker_check(void)
{
	if (ProcDiePending)
		proc_exit(1);
	CHECK_FOR_INTERRUPTS();
}

/* Waits until the latch is set or a time is over. */
void
courier_worker_idle(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	courier_worker_check();
}
