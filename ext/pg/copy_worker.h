/*
 * copy_worker.h
 *	  What courier.copy_table() and its worker tell each other.
 *
 * The caller fills in the order, starts the worker, and reads the answer when
 * the worker has ended: nobody reads what the other still writes.
 */
#ifndef COURIER_COPY_WORKER_H
#define COURIER_COPY_WORKER_H

#include "postgres.h"

/* In dynamic shared memory. */
typedef struct CourierCopyCall
{
	/* the order */
	Oid			database;
	Oid			role;			/* acts as this one */
	char		lock_timeout[32];	/* as the setting is written */
	char		snapshot[64];	/* to read with, or "" */

	/* the answer */
	bool		done;
	int64		rows;
	char		sqlstate[6];	/* "": no error was told */
	char		message[2048];
	char		detail[2048];
	char		hint[2048];

	/* the order's text, for courier.copy_table_open() */
	char		request[FLEXIBLE_ARRAY_MEMBER];
} CourierCopyCall;

extern PGDLLEXPORT void courier_copy_worker_main(Datum arg);

#endif							/* COURIER_COPY_WORKER_H */
