/*
 * housekeeper.c
 *	  The worker that keeps house in a database.
 *
 * Once a second it calls courier.housekeep(), and twice a second it sees to
 * it that each subscription that workers may ship is shipped: it starts a
 * ship worker where nobody has the lease, and tells one to leave whose
 * subscription is no longer for it or which a sidecar wants.  A worker that
 * ends is started again after a pause, which grows while it keeps ending.
 *
 * It also starts the worker that refreshes foreign tables (refresh_worker.c).
 *
 * It holds no lock and no snapshot while it waits, and never loads Go.
 */
#include "worker.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Between two looks at the subscriptions, milliseconds. */
#define PLAN_INTERVAL 500

/* Between two calls of courier.housekeep(), milliseconds. */
#define HOUSEKEEP_INTERVAL 1000

/* A worker that lived this long had not failed to start. */
#define SURELY_STARTED 10000

/*
 * How long a worker whose subscription is dropped or disabled may take to
 * leave before it is terminated: a batch should be finished in that time, a
 * copy will not.
 */
#define LEAVE_TIME 4000

/* What courier.worker_plan() says of a subscription. */
typedef struct PlannedSubscription
{
	int			id;
	char	   *name;
	bool		wished;			/* by a sidecar */
	bool		free;			/* nobody has the lease */
	int64		generation;		/* of the configuration */
} PlannedSubscription;

/* What this process did for a subscription. */
typedef struct ShipWorker
{
	int			subscription;	/* hash key */
	BackgroundWorkerHandle *handle; /* NULL: none */
	TimestampTz started;
	int			failures;		/* in a row */
	TimestampTz not_before;		/* of the next start */
	bool		dismissed;		/* told to leave: its end is no failure */
	uint64		planned;		/* look at which it was last to be shipped */
	TimestampTz told;			/* … for good, 0: not so */
} ShipWorker;

static Oid	database;
static HTAB *ship_workers = NULL;
static bool said_full = false;

/* The last error that was logged, by its message. */
static char last_error[256];

static ShipWorker *
find_ship_worker(int subscription)
{
	bool		found;
	ShipWorker *worker = hash_search(ship_workers, &subscription, HASH_ENTER,
									 &found);

	if (!found)
	{
		memset(worker, 0, sizeof(ShipWorker));
		worker->subscription = subscription;
	}
	return worker;
}

/* Ends when there is nothing to do in this database. */
static void
end_if_not_wanted(void)
{
	bool		wanted;

	courier_worker_begin("look for the extension");
	wanted = courier_workers && courier_worker_extension_exists();
	courier_worker_commit();
	if (wanted)
		return;
	courier_workers_tell(database, COURIER_ALL_WORKERS);
	courier_launcher_tell(database, COURIER_NEWS_ABSENT);
	proc_exit(0);
}

/* The ids of the subscriptions that workers of this database ship, as int[]. */
static char *
running_subscriptions(CourierWorkerInfo *workers, int count)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	for (int i = 0; i < count; i++)
		if (workers[i].subscription > COURIER_HOUSEKEEPER)
			appendStringInfo(&text, "%s%d", text.len > 1 ? "," : "",
							 workers[i].subscription);
	appendStringInfoChar(&text, '}');
	return text.data;
}

/* Asks what is to be shipped; into memory of the caller's context. */
static List *
read_plan(CourierWorkerInfo *workers, int count)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *running = running_subscriptions(workers, count);
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	List	   *plan = NIL;

	courier_worker_begin("SELECT courier.worker_plan()");
	values[0] = CStringGetTextDatum(running);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args("SELECT subscription_id, subscription_name, wished, free, generation"
							  " FROM courier.worker_plan($1::pg_catalog.int4[])",
							  1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not ask which subscriptions are to be shipped");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old_context = MemoryContextSwitchTo(context);
		PlannedSubscription *planned = palloc(sizeof(PlannedSubscription));
		bool		isnull;

		planned->id = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		planned->name = pstrdup(NameStr(*DatumGetName(SPI_getbinval(row, desc, 2, &isnull))));
		planned->wished = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
		planned->free = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
		planned->generation = DatumGetInt64(SPI_getbinval(row, desc, 5, &isnull));
		plan = lappend(plan, planned);
		MemoryContextSwitchTo(old_context);
	}
	SPI_finish();
	courier_worker_commit();
	MemoryContextSwitchTo(context);
	return plan;
}

/* Sends away who is not in the plan any more, or wanted by a sidecar. */
static void
tell_workers(List *plan, CourierWorkerInfo *workers, int count,
			 TimestampTz now)
{
	for (int i = 0; i < count; i++)
	{
		PlannedSubscription *planned = NULL;
		ShipWorker *worker;
		ListCell   *cell;

		if (workers[i].subscription <= COURIER_HOUSEKEEPER)
			continue;
		foreach(cell, plan)
			if (((PlannedSubscription *) lfirst(cell))->id == workers[i].subscription)
				planned = lfirst(cell);
		worker = find_ship_worker(workers[i].subscription);
		if (planned != NULL && !planned->wished)
		{
			worker->told = 0;
			continue;
		}
		courier_workers_tell(database, workers[i].subscription);
		worker->dismissed = true;
		if (planned != NULL)
			continue;			/* the sidecar waits for the batch */
		if (worker->told == 0)
			worker->told = now;
		else if (TimestampDifferenceExceeds(worker->told, now, LEAVE_TIME) &&
				 kill(workers[i].pid, SIGTERM) != 0)
			elog(DEBUG1, "could not signal worker %d: %m", workers[i].pid);
	}
}

/* Is the worker about to start?  Notes its end. */
static bool
is_starting(ShipWorker *worker, TimestampTz now)
{
	pid_t		pid;
	BgwHandleStatus status;

	if (worker->handle == NULL)
		return false;
	status = GetBackgroundWorkerPid(worker->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return true;
	pfree(worker->handle);
	worker->handle = NULL;
	if (worker->dismissed ||
		TimestampDifferenceExceeds(worker->started, now, SURELY_STARTED))
		worker->failures = 0;
	if (!worker->dismissed)
		worker->not_before =
			TimestampTzPlusMilliseconds(now, courier_worker_pause(++worker->failures));
	return false;
}

static bool
register_worker(PlannedSubscription *planned, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_notify_pid = MyProcPid,
	};
	CourierShipOrder order = {.database = database,.subscription = planned->id};
	MemoryContext old_context;
	bool		registered;

	StaticAssertStmt(sizeof(order) <= BGW_EXTRALEN, "an order fits");
	strlcpy(order.name, planned->name, NAMEDATALEN);
	memcpy(worker.bgw_extra, &order, sizeof(order));
	strlcpy(worker.bgw_library_name, "pg_courier", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "courier_ship_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_courier ship worker for subscription %s",
			 planned->name);
	strlcpy(worker.bgw_type, "pg_courier ship worker", BGW_MAXLEN);
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old_context);
	return registered;
}

static void
start_worker(PlannedSubscription *planned, ShipWorker *worker, TimestampTz now)
{
	static const char *const hint =
		"Increase max_worker_processes, which takes a restart, or run \"courier run\" beside the server; it is tried again meanwhile.";
	char	   *message;
	long		pause;

	worker->started = now;
	worker->told = 0;
	worker->dismissed = false;
	if (register_worker(planned, &worker->handle))
	{
		said_full = false;
		return;
	}
	worker->handle = NULL;
	pause = courier_worker_pause(++worker->failures);
	worker->not_before = TimestampTzPlusMilliseconds(now, pause);
	message = psprintf("no background worker is left to ship subscription %s",
					   planned->name);
	if (!said_full)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_internal("pg_courier: %s", message),
				 errhint("%s", hint)));
	said_full = true;
	courier_worker_report(planned->id, message,
						  unpack_sql_state(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						  hint, pause);
}

/* The worker's end is no failure, and the next may start at once. */
static void
dismiss(ShipWorker *worker)
{
	worker->dismissed = true;
	worker->failures = 0;
	worker->not_before = 0;
}

/* Sees to it that what workers may ship is shipped. */
static void
keep_shipping(void)
{
	static int64 generation = -1;
	static uint64 look = 0;
	CourierWorkerInfo *workers;
	int			count = courier_workers_of(database, &workers);
	List	   *plan = read_plan(workers, count);
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	tell_workers(plan, workers, count, now);
	look++;
	foreach(cell, plan)
	{
		PlannedSubscription *planned = lfirst(cell);
		ShipWorker *worker = find_ship_worker(planned->id);

		/* One that was disabled meanwhile has ended by itself. */
		if (worker->planned + 1 != look)
			dismiss(worker);
		worker->planned = look;
		if (planned->generation != generation)
		{
			generation = planned->generation;
			courier_workers_turn(database);
		}
		if (is_starting(worker, now) || planned->wished || !planned->free ||
			worker->not_before > now)
			continue;
		start_worker(planned, worker, now);
	}
}

/* Calls courier.housekeep(), if there is one. */
static void
housekeep(void)
{
	courier_worker_begin("SELECT courier.housekeep()");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT pg_catalog.to_regprocedure('courier.housekeep()') IS NOT NULL",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for courier.housekeep()");
	if (SPI_processed == 1)
	{
		bool		isnull;

		if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &isnull)) &&
			SPI_execute("SELECT courier.housekeep()", false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not call courier.housekeep()");
	}
	SPI_finish();
	courier_worker_commit();
}

static void
keep_refreshing(void)
{
	courier_keep_refreshing(database);
}

/* Does a part of the work.  An error is logged, once in a row, and survived. */
static bool
attempt(void (*part) (void), MemoryContext context)
{
	volatile bool succeeded = false;

	PG_TRY();
	{
		part();
		succeeded = true;
	}
	PG_CATCH();
	{
		ErrorData  *error = courier_worker_catch(context);

		if (strncmp(last_error, error->message, sizeof(last_error) - 1) != 0)
			courier_worker_log(error);
		strlcpy(last_error, error->message, sizeof(last_error));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return succeeded;
}

void
courier_housekeeper_main(Datum arg)
{
	HASHCTL		control = {
		.keysize = sizeof(int),
		.entrysize = sizeof(ShipWorker),
	};
	MemoryContext context;
	TimestampTz housekept = 0;

	database = DatumGetObjectId(arg);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!courier_worker_enter(database, COURIER_HOUSEKEEPER))
		proc_exit(0);
	courier_worker_connect(database);
	context = AllocSetContextCreate(TopMemoryContext, "pg_courier housekeeper",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	end_if_not_wanted();
	courier_launcher_tell(database, COURIER_NEWS_PRESENT);
	ship_workers = hash_create("pg_courier ship workers", 16, &control,
							   HASH_ELEM | HASH_BLOBS);

	/*
	 * A reload may have changed the database's own settings, which are read
	 * when a session starts: the launcher then starts another housekeeper.
	 */
	while (!courier_worker_told() && !ConfigReloadPending)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		succeeded = true;

		MemoryContextReset(context);
		if (TimestampDifferenceExceeds(housekept, now, HOUSEKEEP_INTERVAL))
		{
			end_if_not_wanted();
			MemoryContextSwitchTo(context);
			succeeded = attempt(housekeep, context);
			succeeded = attempt(keep_refreshing, context) && succeeded;
			housekept = now;
		}
		succeeded = attempt(keep_shipping, context) && succeeded;
		if (succeeded)
			last_error[0] = '\0';
		pgstat_report_stat(true);
		courier_worker_idle(PLAN_INTERVAL);
	}
	proc_exit(0);
}
