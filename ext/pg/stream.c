/*
 * stream.c
 *	  Streams to nodes: connections that existing rows are copied over with
 *	  COPY, which dblink cannot do.
 *
 * A stream is opened with what dblink would use (connect_trial.c), and belongs
 * to the session.  Nothing here blocks: every wait looks for interrupts, and
 * gives up when no byte moves for too long.  A stream on which anything went
 * wrong in the middle is closed, so that it is either idle, or in a COPY that
 * it was told to begin.
 *
 * What a node says against rows may quote them (the context of a COPY's error
 * does): of that only the table and the column are kept.
 */
#include "pg_courier.h"

#include "funcapi.h"
#include "libpq_calls.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "stream.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(courier_stream_open);
PG_FUNCTION_INFO_V1(courier_stream_close);
PG_FUNCTION_INFO_V1(courier_stream_run);
PG_FUNCTION_INFO_V1(courier_stream_end);

static HTAB *streams = NULL;

static const CourierLibpq *libpq;

static void
close_stream(CourierStream *stream)
{
	libpq->finish(stream->conn);
	ReleaseExternalFD();
	(void) hash_search(streams, stream->name, HASH_REMOVE, NULL);
}

/* The stream of that name, or NULL. */
static CourierStream *
find_stream(Datum name)
{
	char		key[NAMEDATALEN];

	if (streams == NULL)
		return NULL;
	strlcpy(key, TextDatumGetCString(name), sizeof(key));
	return hash_search(streams, key, HASH_FIND, NULL);
}

CourierStream *
courier_stream(Datum name)
{
	CourierStream *stream = find_stream(name);

	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_DOES_NOT_EXIST),
				 errmsg("stream \"%s\" is not open", TextDatumGetCString(name))));
	return stream;
}

/* Closes all streams: called when the engine could not do it. */
void
courier_close_streams(void)
{
	HASH_SEQ_STATUS sequence;
	CourierStream *stream;

	if (streams == NULL)
		return;
	hash_seq_init(&sequence, streams);
	while ((stream = hash_seq_search(&sequence)) != NULL)
		close_stream(stream);
}

/* courier.stream_open(stream text, server text, timeout int4) */
Datum
courier_stream_open(PG_FUNCTION_ARGS)
{
	Datum		name = PG_GETARG_DATUM(0);
	CourierStream *stream = find_stream(name);
	PGconn	   *conn;
	char		key[NAMEDATALEN];

	libpq = courier_libpq();
	if (stream != NULL)
		close_stream(stream);
	if (streams == NULL)
	{
		HASHCTL		control = {
			.keysize = NAMEDATALEN,
			.entrysize = sizeof(CourierStream),
			.hcxt = TopMemoryContext,
		};

		streams = hash_create("pg_courier streams", 8, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, TextDatumGetCString(name), sizeof(key));
	conn = courier_connect(TextDatumGetCString(PG_GETARG_DATUM(1)),
						   PG_GETARG_INT32(2));
	(void) libpq->setnonblocking(conn, 1);
	stream = hash_search(streams, key, HASH_ENTER, NULL);
	stream->conn = conn;
	PG_RETURN_VOID();
}

/* courier.stream_close(stream text) */
Datum
courier_stream_close(PG_FUNCTION_ARGS)
{
	CourierStream *stream = find_stream(PG_GETARG_DATUM(0));

	if (stream != NULL)
		close_stream(stream);
	PG_RETURN_VOID();
}

static void
lose_stream(CourierStream *stream, const char *why)
{
	char	   *detail = pstrdup(why);

	close_stream(stream);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the connection to the node was lost"),
			 errdetail_internal("%s", detail)));
}

/*
 * Waits until the node can be written to, or has sent something.  An interrupt
 * closes the stream.
 */
static void
wait_for_node(CourierStream *stream, int events, TimestampTz end, int silence)
{
	long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
	int			event;

	if (rest <= 0)
		lose_stream(stream, psprintf("It was silent for %d ms.", silence));
	event = WaitLatchOrSocket(MyLatch,
							  WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | events,
							  libpq->socket(stream->conn), rest,
							  PG_WAIT_EXTENSION);
	if (event & WL_LATCH_SET)
		ResetLatch(MyLatch);
	PG_TRY();
	{
		CHECK_FOR_INTERRUPTS();
	}
	PG_CATCH();
	{
		close_stream(stream);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Has all that libpq keeps sent. */
void
courier_stream_flush(CourierStream *stream, int silence)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  silence);

	for (;;)
	{
		int			left = libpq->flush(stream->conn);

		if (left < 0)
			lose_stream(stream, libpq->errorMessage(stream->conn));
		if (left == 0)
			return;
		wait_for_node(stream, WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE, end,
					  silence);
		/* what it has sent must not keep it from reading */
		if (!libpq->consumeInput(stream->conn))
			lose_stream(stream, libpq->errorMessage(stream->conn));
	}
}

void
courier_stream_put(CourierStream *stream, const char *data, int length,
				   int silence)
{
	while (libpq->putCopyData(stream->conn, data, length) == 0)
		courier_stream_flush(stream, silence);
	courier_stream_flush(stream, silence);
}

/* The next result, or NULL behind the last. */
static PGresult *
next_result(CourierStream *stream, int silence)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  silence);

	while (libpq->isBusy(stream->conn))
	{
		wait_for_node(stream, WL_SOCKET_READABLE, end, silence);
		if (!libpq->consumeInput(stream->conn))
			lose_stream(stream, libpq->errorMessage(stream->conn));
	}
	return libpq->getResult(stream->conn);
}

/* Takes a field of an error, in the database's encoding. */
static char *
error_field(PGresult *result, int field)
{
	char	   *text = libpq->resultErrorField(result, field);

	return text == NULL ? NULL : pstrdup(text);
}

/* What came of a string of statements. */
typedef struct StreamOutcome
{
	bool		copying;		/* it has begun a COPY */
	int64		rows;			/* of the last statement */
	char	   *sqlstate;		/* of the first error, or NULL */
	char	   *message;
	char	   *detail;
	char	   *hint;
	char	   *column;
} StreamOutcome;

static void
take_results(CourierStream *stream, int silence, StreamOutcome *outcome)
{
	PGresult   *result;

	while ((result = next_result(stream, silence)) != NULL)
	{
		switch (libpq->resultStatus(result))
		{
			case PGRES_COPY_IN:
				outcome->copying = true;
				libpq->clear(result);
				return;
			case PGRES_COMMAND_OK:
			case PGRES_TUPLES_OK:
				outcome->rows = strtoll(libpq->cmdTuples(result), NULL, 10);
				break;
			default:
				if (outcome->sqlstate != NULL)
					break;
				outcome->sqlstate = error_field(result, PG_DIAG_SQLSTATE);
				if (outcome->sqlstate == NULL)
				{
					libpq->clear(result);
					lose_stream(stream, libpq->errorMessage(stream->conn));
				}
				outcome->message = error_field(result, PG_DIAG_MESSAGE_PRIMARY);
				outcome->detail = error_field(result, PG_DIAG_MESSAGE_DETAIL);
				outcome->hint = error_field(result, PG_DIAG_MESSAGE_HINT);
				outcome->column = error_field(result, PG_DIAG_COLUMN_NAME);
		}
		libpq->clear(result);
	}
}

/* The row (copying, rows, sqlstate, message, detail, hint). */
static Datum
outcome_row(FunctionCallInfo fcinfo, StreamOutcome *outcome)
{
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {0};
	char	   *texts[] = {outcome->sqlstate, outcome->message,
		outcome->detail, outcome->hint};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(outcome->copying);
	values[1] = Int64GetDatum(outcome->rows);
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[i + 2] = texts[i] == NULL;
		if (texts[i] != NULL)
			values[i + 2] = CStringGetTextDatum(texts[i]);
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/*
 * courier.stream_run(stream text, command text, silence int4)
 * → copying bool, rows int8, sqlstate text, message text, detail text, hint text
 *
 * Runs a string of statements, of which the last may begin a COPY FROM STDIN.
 */
Datum
courier_stream_run(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));
	int			silence = PG_GETARG_INT32(2);
	StreamOutcome outcome = {0};

	if (!libpq->sendQuery(stream->conn, TextDatumGetCString(PG_GETARG_DATUM(1))))
		lose_stream(stream, libpq->errorMessage(stream->conn));
	courier_stream_flush(stream, silence);
	take_results(stream, silence, &outcome);
	PG_RETURN_DATUM(outcome_row(fcinfo, &outcome));
}

/*
 * courier.stream_end(stream text, silence int4) → as stream_run()
 *
 * Ends the COPY that is under way.
 */
Datum
courier_stream_end(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));
	int			silence = PG_GETARG_INT32(1);
	StreamOutcome outcome = {0};
	int			ended;

	while ((ended = libpq->putCopyEnd(stream->conn, NULL)) == 0)
		courier_stream_flush(stream, silence);
	if (ended < 0)
		lose_stream(stream, libpq->errorMessage(stream->conn));
	courier_stream_flush(stream, silence);
	take_results(stream, silence, &outcome);
	PG_RETURN_DATUM(outcome_row(fcinfo, &outcome));
}
