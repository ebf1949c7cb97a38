/*
 * remote.c
 *	  Waits for what was sent to a node, without giving up the right to be
 *	  cancelled, whatever the node or the network does.
 *
 * courier.remote_wait() waits for a bounded time for the results of a command
 * string, and says for how long no byte has moved.  Between the calls the
 * session is free for other work: the engine reads and renders the next
 * batch, or asks over another link what the node is doing (pkg/dblink).
 *
 * A node's error is returned as a value, with the number of statements that
 * had succeeded before it.  After a cancel the state of a link is unknown: it
 * is closed.
 */
#include "pg_courier.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "remote.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(courier_remote_wait);
PG_FUNCTION_INFO_V1(courier_remote_poll);
PG_FUNCTION_INFO_V1(courier_remote_rows);

/* How often a wait sees whether bytes move, in milliseconds. */
#define LOOK_INTERVAL 250

/* The pause between two looks at a socket that is not known. */
#define BLIND_INTERVAL 2

/* How long the end of an answer whose beginning is here may take. */
#define REST_TIMEOUT 15000

/* Notes whether bytes have moved. */
static void
look_at_socket(RemoteLink *link, TimestampTz now)
{
	uint64		moved = courier_socket_moved(&link->socket);

	if (moved == link->moved)
		return;
	link->moved = moved;
	link->moved_at = now;
}

/*
 * Waits until a result can be fetched without blocking; false if that is not
 * so by the deadline.
 */
static bool
wait_until_ready(RemoteLink *link, FmgrInfo *is_busy, Datum connection,
				 TimestampTz deadline)
{
	bool		known = link->socket.fd >= 0;

	while (DatumGetInt32(FunctionCall1(is_busy, connection)) == 1)
	{
		TimestampTz now;
		long		pause;
		int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

		/* a broken connection stays busy; fetching says how it broke */
		if (known && !courier_socket_open(&link->socket))
			return true;
		now = GetCurrentTimestamp();
		look_at_socket(link, now);
		pause = TimestampDifferenceMilliseconds(now, deadline);
		if (pause <= 0)
			return false;
		pause = Min(pause, known ? LOOK_INTERVAL : BLIND_INTERVAL);
		(void) WaitLatchOrSocket(MyLatch,
								 known ? events | WL_SOCKET_READABLE : events,
								 known ? link->socket.fd : PGINVALID_SOCKET,
								 pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * Waits for results and collects them: all, or (one_only) none, but the next
 * is ready to be fetched then.  Returns false if the timeout was
 * over first.  SPI must be connected.  Cut short by an error, it closes the
 * link.
 */
static bool
collect_results(RemoteLink *link, Datum connection, int timeout,
				bool one_only)
{
	FmgrInfo	is_busy;
	FmgrInfo	disconnect_function;
	volatile bool ready = false;
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);

	fmgr_info(courier_dblink_function("dblink_is_busy", 1), &is_busy);
	fmgr_info(courier_dblink_function("dblink_disconnect", 1),
			  &disconnect_function);
	PG_TRY();
	{
		do
		{
			ready = wait_until_ready(link, &is_busy, connection, deadline);
			if (!ready || one_only)
				break;
			link->in_flight =
				courier_fetch_result(link, courier_result_plan(), connection,
									 courier_outcome_take, NULL);
		} while (link->in_flight);
	}
	PG_CATCH();
	{
		courier_give_up(link, &disconnect_function, connection);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return ready;
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* For how many milliseconds no byte has moved. */
static Datum
silence_of(RemoteLink *link)
{
	long		silent = TimestampDifferenceMilliseconds(link->moved_at,
														 GetCurrentTimestamp());

	return Int32GetDatum((int32) Min(silent, INT_MAX));
}

/* Columns of remote_wait()'s result; the first three are remote_poll()'s. */
enum
{
	WAIT_READY,
	WAIT_SILENT,
	WAIT_UNACKNOWLEDGED,
	READY_COLUMNS,
	WAIT_COMPLETED = READY_COLUMNS,
	WAIT_COUNTS,
	WAIT_VALUE,
	WAIT_SQLSTATE,
	WAIT_MESSAGE,
	WAIT_DETAIL,
	WAIT_HINT,
	WAIT_CONTEXT,
	WAIT_COLUMNS
};

/* What remote_poll() and remote_wait() have in common. */
static RemoteLink *
wait_for_link(FunctionCallInfo fcinfo, bool one_only, TupleDesc *desc,
			  Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	RemoteLink *link = courier_find_link(PG_GETARG_DATUM(0));
	bool		ready;

	if (get_call_result_type(fcinfo, NULL, desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	ready = collect_results(link, PG_GETARG_DATUM(0), PG_GETARG_INT32(1),
							one_only);
	SPI_finish();
	MemoryContextSwitchTo(context);

	values[WAIT_READY] = BoolGetDatum(ready);
	values[WAIT_SILENT] = silence_of(link);
	values[WAIT_UNACKNOWLEDGED] =
		Int32GetDatum(courier_socket_unacknowledged(&link->socket));
	*desc = BlessTupleDesc(*desc);
	return link;
}

/* courier.remote_poll(connection text, timeout int4) → one row, see above */
Datum
courier_remote_poll(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[READY_COLUMNS];
	bool		nulls[READY_COLUMNS] = {0};

	(void) wait_for_link(fcinfo, true, &desc, values);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* courier.remote_wait(connection text, timeout int4) → one row, see above */
Datum
courier_remote_wait(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[WAIT_COLUMNS];
	bool		nulls[WAIT_COLUMNS] = {0};
	RemoteLink *link = wait_for_link(fcinfo, false, &desc, values);
	RemoteOutcome *outcome = &link->outcome;
	ErrorData  *error = outcome->error;

	values[WAIT_COMPLETED] = Int32GetDatum(outcome->completed);
	values[WAIT_COUNTS] =
		PointerGetDatum(construct_array(outcome->counts, outcome->completed,
										INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
										TYPALIGN_DOUBLE));
	values[WAIT_VALUE] = text_or_null(outcome->value, &nulls[WAIT_VALUE]);
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
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* Prepares to return rows of one array each. */
static void
begin_rows(ReturnSetInfo *result)
{
	MemoryContext old_context =
		MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);

	result->returnMode = SFRM_Materialize;
	result->setDesc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(result->setDesc, 1, "r", TEXTARRAYOID, -1, 0);
	result->setResult =
		tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0,
							  false, work_mem);
	MemoryContextSwitchTo(old_context);
}

/* Stores rows of one array each: a RemoteTake. */
static void
take_rows(RemoteLink *link, void *arg)
{
	ReturnSetInfo *result = arg;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		value;
		bool		isnull;

		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
							  &isnull);
		tuplestore_putvalues(result->setResult, result->setDesc, &value,
							 &isnull);
	}
}

/* The plan that fetches rows of so many columns as arrays. */
static SPIPlanPtr
row_plan(int columns)
{
	StringInfoData names;
	StringInfoData types;
	Oid			argument = TEXTOID;
	SPIPlanPtr	plan;

	initStringInfo(&names);
	initStringInfo(&types);
	for (int i = 0; i < columns; i++)
	{
		appendStringInfo(&names, "%sc%d", i == 0 ? "" : ", ", i);
		appendStringInfo(&types, "%sc%d pg_catalog.text", i == 0 ? "" : ", ", i);
	}
	plan = SPI_prepare(psprintf("SELECT ARRAY[%s] FROM %s.dblink_get_result($1) AS t(%s)",
								names.data,
								quote_identifier(courier_dblink_schema()),
								types.data), 1, &argument);
	if (plan == NULL)
		elog(ERROR, "could not prepare the fetch of remote rows");
	return plan;
}

/*
 * courier.remote_rows(connection text, columns int4) → setof text[]
 *
 * The rows that the one statement sent has given; its error is raised.
 */
Datum
courier_remote_rows(PG_FUNCTION_ARGS)
{
	Datum		connection = PG_GETARG_DATUM(0);
	RemoteLink *link = courier_find_link(connection);
	SPIPlanPtr	plan;
	bool		more = true;

	begin_rows((ReturnSetInfo *) fcinfo->resultinfo);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	plan = row_plan(PG_GETARG_INT32(1));
	/* one without rows looks like the end, hence a second look */
	for (int i = 0; i < 2 || more; i++)
	{
		if (!collect_results(link, connection, REST_TIMEOUT, true))
		{
			FmgrInfo	disconnect_function;

			fmgr_info(courier_dblink_function("dblink_disconnect", 1),
					  &disconnect_function);
			courier_give_up(link, &disconnect_function, connection);
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the rest of an answer did not arrive")));
		}
		more = courier_fetch_result(link, plan, connection, take_rows,
									fcinfo->resultinfo);
	}
	link->in_flight = false;
	SPI_finish();
	if (link->outcome.error != NULL)
		ReThrowError(link->outcome.error);
	return (Datum) 0;
}
