/*
 * remote_run.c
 *	  Sends statements over a link and waits for them, in one call.
 *
 * A batch behind which nothing waits to be read and rendered gains nothing
 * from coming back between the two, and a small one would pay for it.
 */
#include "pg_courier.h"

PG_FUNCTION_INFO_V1(courier_remote_run);

extern Datum courier_remote_send(PG_FUNCTION_ARGS);
extern Datum courier_remote_wait(PG_FUNCTION_ARGS);

/*
 * courier.remote_run(connection text, timeout int4, command text, silence int4)
 * → as remote_wait(), whose arguments are the first two of these.
 */
Datum
courier_remote_run(PG_FUNCTION_ARGS)
{
	(void) DirectFunctionCall3(courier_remote_send, PG_GETARG_DATUM(0),
							   PG_GETARG_DATUM(2), PG_GETARG_DATUM(3));
	return courier_remote_wait(fcinfo);
}
