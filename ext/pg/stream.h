/*
 * stream.h
 *	  What the files about streams to nodes share; see stream.c.
 */
#ifndef COURIER_STREAM_H
#define COURIER_STREAM_H

#include "postgres.h"

#include "libpq-fe.h"
#include "remote.h"

typedef struct CourierStream
{
	char		name[NAMEDATALEN];	/* hash key */
	PGconn	   *conn;
	CourierSocket socket;
	uint64		moved;			/* courier_socket_moved() when last looked */
	TimestampTz moved_at;		/* when that was first seen to be so */
	bool		binary;			/* format of the COPY it is in */
	bool		unheaded;		/* what is before the rows is yet to be put */
} CourierStream;

/* ---- stream.c ---- */
extern CourierStream *courier_stream(Datum name);
extern void courier_lose_stream(CourierStream *stream, const char *why);
extern bool courier_stream_sent(CourierStream *stream, TimestampTz deadline);
extern bool courier_stream_answered(CourierStream *stream,
									TimestampTz deadline);
extern void courier_stream_put(CourierStream *stream, const char *data,
							   int length);
extern void courier_close_streams(void);

#endif							/* COURIER_STREAM_H */
