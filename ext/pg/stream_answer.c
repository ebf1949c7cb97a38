/*
 * stream_answer.c
 *	  What a node says of what was sent over a stream, waited for as remote.c
 *	  does for a link.
 *
 * The context of a COPY's error quotes rows, and is not kept.
 */
#include "pg_courier.h"

#include "funcapi.h"
#include "libpq_calls.h"
#include "stream.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(courier_stream_flush);
PG_FUNCTION_INFO_V1(courier_stream_take);

/* How long the end of an answer whose beginning is here may take. */
#define REST_TIMEOUT 15000

/* Takes a field of an error, in the database's encoding. */
static char *
error_field(PGresult *result, int field)
{
	char	   *text = courier_libpq()->resultErrorField(result, field);

	return text == NULL ? NULL : pstrdup(text);
}

/* What the last statement did, or the first error that the node gave. */
typedef struct StreamOutcome
{
	int64		rows;
	char	   *value;
	char	   *sqlstate;
	char	   *message;
	char	   *detail;
	char	   *hint;
} StreamOutcome;

static void
take_result(CourierStream *stream, PGresult *result, StreamOutcome *outcome)
{
	switch (courier_libpq()->resultStatus(result))
	{
		case PGRES_COPY_IN:
			stream->binary = courier_libpq()->binaryTuples(result);
			stream->unheaded = stream->binary;
			break;
		case PGRES_TUPLES_OK:
			if (courier_libpq()->ntuples(result) > 0)
				outcome->value = pstrdup(courier_libpq()->getvalue(result, 0, 0));
			/* FALLTHROUGH */
		case PGRES_COMMAND_OK:
			outcome->rows = strtoll(courier_libpq()->cmdTuples(result), NULL, 10);
			break;
		default:
			if (outcome->sqlstate != NULL)
				break;
			outcome->sqlstate = error_field(result, PG_DIAG_SQLSTATE);
			if (outcome->sqlstate == NULL)
			{
				courier_libpq()->clear(result);
				courier_lose_stream(stream, courier_libpq()->errorMessage(stream->conn));
			}
			outcome->message = error_field(result, PG_DIAG_MESSAGE_PRIMARY);
			outcome->detail = error_field(result, PG_DIAG_MESSAGE_DETAIL);
			outcome->hint = error_field(result, PG_DIAG_MESSAGE_HINT);
	}
}

/*
 * Takes the results of what was sent, to the last, or until a COPY begins.  An
 * error's end is near: it is waited for.
 */
static bool
take_results(CourierStream *stream, TimestampTz deadline, StreamOutcome *outcome)
{
	bool		copying = false;

	while (!copying)
	{
		PGresult   *result;

		if (!courier_stream_answered(stream, outcome->sqlstate == NULL ? deadline :
							 TimestampTzPlusMilliseconds(deadline, REST_TIMEOUT)))
			return false;
		result = courier_libpq()->getResult(stream->conn);
		if (result == NULL)
			break;
		copying = courier_libpq()->resultStatus(result) == PGRES_COPY_IN;
		take_result(stream, result, outcome);
		courier_libpq()->clear(result);
	}
	return true;
}

/* Columns of stream_take()'s result; the first three are stream_flush()'s. */
enum
{
	STREAM_READY,
	STREAM_SILENT,
	STREAM_UNACKNOWLEDGED,
	FLUSH_COLUMNS,
	STREAM_ROWS = FLUSH_COLUMNS,
	STREAM_TEXTS,
	TAKE_COLUMNS = STREAM_TEXTS + 5
};

static Datum
answer(FunctionCallInfo fcinfo, CourierStream *stream, bool ready,
	   StreamOutcome *outcome)
{
	TupleDesc	desc;
	Datum		values[TAKE_COLUMNS];
	bool		nulls[TAKE_COLUMNS] = {0};
	char	   *texts[] = {outcome->value, outcome->sqlstate, outcome->message,
		outcome->detail, outcome->hint};
	long		silent = TimestampDifferenceMilliseconds(stream->moved_at,
														 GetCurrentTimestamp());

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[STREAM_READY] = BoolGetDatum(ready);
	values[STREAM_SILENT] = Int32GetDatum((int32) Min(silent, INT_MAX));
	values[STREAM_UNACKNOWLEDGED] =
		Int32GetDatum(courier_socket_unacknowledged(&stream->socket));
	values[STREAM_ROWS] = Int64GetDatum(outcome->rows);
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[STREAM_TEXTS + i] = texts[i] == NULL;
		if (texts[i] != NULL)
			values[STREAM_TEXTS + i] = CStringGetTextDatum(texts[i]);
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/*
 * courier.stream_flush(stream text, timeout int4)
 * → ready bool, silent int4, unacknowledged int4
 *
 * Waits until all that was put into a stream has been sent.
 */
Datum
courier_stream_flush(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   PG_GETARG_INT32(1));
	StreamOutcome outcome = {0};

	return answer(fcinfo, stream, courier_stream_sent(stream, deadline), &outcome);
}

/*
 * courier.stream_take(stream text, timeout int4)
 * → as stream_flush(), rows int8, value text, sqlstate text, message text,
 *	 detail text, hint text
 *
 * Waits until the statements that were sent, or the COPY that was ended, are
 * over, or a COPY FROM STDIN has begun.
 */
Datum
courier_stream_take(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   PG_GETARG_INT32(1));
	StreamOutcome outcome = {0};
	bool		ready = courier_stream_sent(stream, deadline) &&
		take_results(stream, deadline, &outcome);

	return answer(fcinfo, stream, ready, &outcome);
}
