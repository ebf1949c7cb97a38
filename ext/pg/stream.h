/*
 * stream.h
 *	  What the files about streams to nodes share; see stream.c.
 */
#ifndef COURIER_STREAM_H
#define COURIER_STREAM_H

#include "postgres.h"

#include "libpq-fe.h"

typedef struct CourierStream
{
	char		name[NAMEDATALEN];	/* hash key */
	PGconn	   *conn;
} CourierStream;

/* ---- stream.c ---- */
extern CourierStream *courier_stream(Datum name);
extern void courier_stream_flush(CourierStream *stream, int silence);
extern void courier_stream_put(CourierStream *stream, const char *data,
							   int length, int silence);
extern void courier_close_streams(void);

#endif							/* COURIER_STREAM_H */
