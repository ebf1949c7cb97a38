/*
 * remote.c
 *	  Sends statements over a named dblink connection without giving up the
 *	  right to be cancelled.
 *
 * courier.remote_send() starts a command string, courier.remote_wait() waits
 * for its results.  Between the two the session is free for other work: the
 * engine reads and renders the next batch.  dblink has no way to wait for a
 * result that can be interrupted, so the wait polls dblink_is_busy(), which
 * looks at the socket and costs microseconds.
 *
 * A remote error is returned as a value, with the number of statements that
 * had succeeded before it.  A cancel closes the connection, whose state is
 * unknown from then on.
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(courier_remote_send);
PG_FUNCTION_INFO_V1(courier_remote_wait);

/* The pause between two looks at the socket grows to this. */
#define LONGEST_PAUSE_MICROSECONDS 2000

/* What came of a command string. */
typedef struct RemoteOutcome
{
	int			completed;		/* statements that succeeded */
	int			max_counts;
	Datum	   *counts;			/* rows each of them reported, int8 */
	ErrorData  *error;			/* of the first that failed, or NULL */
} RemoteOutcome;

/* Columns of remote_wait()'s result. */
enum
{
	WAIT_COMPLETED,
	WAIT_COUNTS,
	WAIT_SQLSTATE,
	WAIT_MESSAGE,
	WAIT_DETAIL,
	WAIT_HINT,
	WAIT_CONTEXT,
	WAIT_COLUMNS
};

/* The schema dblink was installed into, looked up once. */
static const char *
dblink_schema(void)
{
	static char *schema = NULL;
	bool		isnull;

	if (schema != NULL && OidIsValid(get_namespace_oid(schema, true)))
		return schema;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT n.nspname::pg_catalog.text"
					" FROM pg_catalog.pg_extension e"
					" JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
					" WHERE e.extname = 'dblink'", true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the extension dblink is not installed in this database"),
				 errhint("Run CREATE EXTENSION dblink.")));
	schema = MemoryContextStrdup(TopMemoryContext,
								 TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[0],
																   SPI_tuptable->tupdesc,
																   1, &isnull)));
	SPI_finish();
	return schema;
}

static Oid
dblink_function(const char *name, int nargs)
{
	Oid			types[] = {TEXTOID, TEXTOID};

	return LookupFuncName(list_make2(makeString(pstrdup(dblink_schema())),
									 makeString(pstrdup(name))),
						  nargs, types, false);
}

/* courier.remote_send(connection text, command text) */
Datum
courier_remote_send(PG_FUNCTION_ARGS)
{
	Oid			send = dblink_function("dblink_send_query", 2);

	if (DatumGetInt32(OidFunctionCall2(send, PG_GETARG_DATUM(0),
									   PG_GETARG_DATUM(1))) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not send to the connection \"%s\"",
						text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	PG_RETURN_VOID();
}

/*
 * Waits until a result can be fetched without blocking.  The first looks
 * come quickly, for the sake of small batches; later ones add no more than
 * an eighth to the time waited.
 */
static void
wait_until_ready(FmgrInfo *is_busy, Datum connection)
{
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	while (DatumGetInt32(FunctionCall1(is_busy, connection)) == 1)
	{
		instr_time	elapsed;
		long		pause;

		INSTR_TIME_SET_CURRENT(elapsed);
		INSTR_TIME_SUBTRACT(elapsed, start);
		pause = (long) (INSTR_TIME_GET_MICROSEC(elapsed) / 8);
		pause = Max(pause, 10);
		pg_usleep(Min(pause, LONGEST_PAUSE_MICROSECONDS));
		CHECK_FOR_INTERRUPTS();
	}
}

/* The count at the end of a command tag ("INSERT 0 5") or the value itself. */
static int64
reported_count(const char *text)
{
	const char *last = strrchr(text, ' ');

	return strtoll(last == NULL ? text : last + 1, NULL, 10);
}

static void
remember_success(RemoteOutcome *outcome, const char *text)
{
	if (outcome->completed == outcome->max_counts)
	{
		outcome->max_counts = Max(outcome->max_counts * 2, 16);
		outcome->counts = outcome->counts == NULL ?
			palloc(sizeof(Datum) * outcome->max_counts) :
			repalloc(outcome->counts, sizeof(Datum) * outcome->max_counts);
	}
	outcome->counts[outcome->completed++] =
		Int64GetDatum(text == NULL ? 0 : reported_count(text));
}

/*
 * Fetches one result, in a subtransaction, as a remote error arrives as an
 * error raised here.  Returns false behind the last.
 */
static bool
fetch_result(SPIPlanPtr plan, Datum connection, MemoryContext context,
			 RemoteOutcome *outcome)
{
	ResourceOwner owner = CurrentResourceOwner;
	uint32		holdoff = InterruptHoldoffCount;
	volatile bool more = true;

	/* a local cancel must not be taken for a remote error */
	HOLD_INTERRUPTS();
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		if (SPI_execute_plan(plan, &connection, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not fetch a result from dblink");
		MemoryContextSwitchTo(context);
		if (SPI_processed == 0)
			more = false;
		else
			remember_success(outcome,
							 SPI_getvalue(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1));
		SPI_freetuptable(SPI_tuptable);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (outcome->error == NULL)
			outcome->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	/* not RESUME_INTERRUPTS(): an error has set the count to zero already */
	InterruptHoldoffCount = holdoff;
	return more;
}

static SPIPlanPtr
result_plan(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	char	   *sql;

	if (plan != NULL)
		return plan;
	sql = psprintf("SELECT r FROM %s.dblink_get_result($1) AS t(r pg_catalog.text)",
				   quote_identifier(dblink_schema()));
	plan = SPI_prepare(sql, 1, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare the fetch of a remote result");
	SPI_keepplan(plan);
	return plan;
}

static void
collect_results(Datum connection, MemoryContext context,
				RemoteOutcome *outcome)
{
	FmgrInfo	is_busy;
	FmgrInfo	disconnect;

	fmgr_info(dblink_function("dblink_is_busy", 1), &is_busy);
	fmgr_info(dblink_function("dblink_disconnect", 1), &disconnect);

	PG_TRY();
	{
		SPIPlanPtr	plan = result_plan();

		do
		{
			wait_until_ready(&is_busy, connection);
		} while (fetch_result(plan, connection, context, outcome));
	}
	PG_CATCH();
	{
		/* needs no catalog: closes the socket and forgets the name */
		FunctionCall1(&disconnect, connection);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * Closes the engine's connections, which may be in the middle of a transaction
 * on the node: called when the engine could not do it.
 */
void
courier_close_connections(void)
{
	char	   *sql = psprintf("SELECT %s.dblink_disconnect(name)"
							   " FROM pg_catalog.unnest(%s.dblink_get_connections()) AS name"
							   " WHERE name LIKE 'pg\\_courier\\_%%'",
							   quote_identifier(dblink_schema()),
							   quote_identifier(dblink_schema()));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not close the connections of the engine");
	SPI_finish();
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* courier.remote_wait(connection text) → one row, see above */
Datum
courier_remote_wait(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	RemoteOutcome outcome = {0};
	TupleDesc	desc;
	Datum		values[WAIT_COLUMNS];
	bool		nulls[WAIT_COLUMNS] = {0};
	ErrorData  *error;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	collect_results(PG_GETARG_DATUM(0), context, &outcome);
	SPI_finish();
	MemoryContextSwitchTo(context);

	error = outcome.error;
	values[WAIT_COMPLETED] = Int32GetDatum(outcome.completed);
	values[WAIT_COUNTS] =
		PointerGetDatum(construct_array(outcome.counts, outcome.completed,
										INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
										TYPALIGN_DOUBLE));
	values[WAIT_SQLSTATE] =
		text_or_null(error ? unpack_sql_state(error->sqlerrcode) : NULL,
					 &nulls[WAIT_SQLSTATE]);
	values[WAIT_MESSAGE] = text_or_null(error ? error->message : NULL,
										&nulls[WAIT_MESSAGE]);
	values[WAIT_DETAIL] = text_or_null(error ? error->detail : NULL,
									   &nulls[WAIT_DETAIL]);
	values[WAIT_HINT] = text_or_null(error ? error->hint : NULL,
									 &nulls[WAIT_HINT]);
	values[WAIT_CONTEXT] = text_or_null(error ? error->context : NULL,
										&nulls[WAIT_CONTEXT]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
