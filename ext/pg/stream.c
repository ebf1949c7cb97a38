/*
 * stream.c
 *	  Streams to nodes: connections that existing rows are copied over with
 *	  COPY, which dblink cannot do.
 *
 * A stream is opened with what dblink would use (connect_trial.c), and belongs
 * to the session.  Every wait is bounded, looks for interrupts, and says for how
 * long no byte has moved, as remote.c does: whether the stream is to be given
 * up is for the caller to say (pkg/dblink).  A stream on which anything went
 * wrong in the middle is closed, so that it is either idle, or in a COPY that
 * it was told to begin.  stream_copy.c puts rows into it, stream_answer.c takes
 * what the node says.
 */
#include "pg_courier.h"

#include "libpq_calls.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "remote.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "stream.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(courier_stream_open);
PG_FUNCTION_INFO_V1(courier_stream_close);
PG_FUNCTION_INFO_V1(courier_stream_send);
PG_FUNCTION_INFO_V1(courier_stream_end);

/* How often a wait sees whether bytes move, in milliseconds. */
#define LOOK_INTERVAL 250

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
	stream->socket = courier_socket_of(libpq->socket(conn));
	stream->moved = courier_socket_moved(&stream->socket);
	stream->moved_at = GetCurrentTimestamp();
	stream->binary = stream->unheaded = false;
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

/* Closes a stream that has broken, and says so. */
void
courier_lose_stream(CourierStream *stream, const char *why)
{
	char	   *detail = pstrdup(why);

	close_stream(stream);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the connection to the node was lost"),
			 errdetail_internal("%s", detail)));
}

/* Sends what the node takes now.  Returns whether that is all there is. */
static bool
flush_stream(CourierStream *stream)
{
	int			left = libpq->flush(stream->conn);

	if (left < 0)
		courier_lose_stream(stream, libpq->errorMessage(stream->conn));
	return left == 0;
}

/* Notes whether bytes have moved. */
static void
look_at_socket(CourierStream *stream)
{
	uint64		moved = courier_socket_moved(&stream->socket);

	if (moved == stream->moved)
		return;
	stream->moved = moved;
	stream->moved_at = GetCurrentTimestamp();
}

/*
 * Waits until the node can be written to, or has sent something, or it is time
 * to look whether bytes move.  Returns false if the deadline is over.  An
 * interrupt closes the stream.
 */
static bool
wait_for_node(CourierStream *stream, int events, TimestampTz deadline)
{
	long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													   deadline);

	look_at_socket(stream);
	if (rest <= 0)
		return false;
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | events,
							 libpq->socket(stream->conn),
							 Min(rest, LOOK_INTERVAL), PG_WAIT_EXTENSION);
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
	/* what it has sent must not keep it from reading */
	if (!libpq->consumeInput(stream->conn))
		courier_lose_stream(stream, libpq->errorMessage(stream->conn));
	return true;
}

/* Waits until all that libpq keeps is sent. */
bool
courier_stream_sent(CourierStream *stream, TimestampTz deadline)
{
	while (!flush_stream(stream))
		if (!wait_for_node(stream, WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE,
						   deadline))
			return false;
	return true;
}

/* Waits until there is a result, or there are no more. */
bool
courier_stream_answered(CourierStream *stream, TimestampTz deadline)
{
	while (libpq->isBusy(stream->conn))
		if (!wait_for_node(stream, WL_SOCKET_READABLE, deadline))
			return false;
	return true;
}

/*
 * Gives libpq a part of a COPY, which goes out as far as the node takes it now:
 * while it inserts those rows others are read, for it or for another stream.
 */
void
courier_stream_put(CourierStream *stream, const char *data, int length)
{
	if (libpq->putCopyData(stream->conn, data, length) <= 0)
		courier_lose_stream(stream, libpq->errorMessage(stream->conn));
	stream->moved_at = GetCurrentTimestamp();
	(void) flush_stream(stream);
}

/* courier.stream_send(stream text, command text) */
Datum
courier_stream_send(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));

	if (!libpq->sendQuery(stream->conn, TextDatumGetCString(PG_GETARG_DATUM(1))))
		courier_lose_stream(stream, libpq->errorMessage(stream->conn));
	stream->moved_at = GetCurrentTimestamp();
	(void) flush_stream(stream);
	PG_RETURN_VOID();
}

/* courier.stream_end(stream text) */
Datum
courier_stream_end(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));

	if (libpq->putCopyEnd(stream->conn, NULL) <= 0)
		courier_lose_stream(stream, libpq->errorMessage(stream->conn));
	stream->moved_at = GetCurrentTimestamp();
	(void) flush_stream(stream);
	PG_RETURN_VOID();
}
