/*
 * remote_ready.c
 *	  Waits for the answers of several dblink connections side by side.
 *
 * remote_wait() (remote.c) waits for one connection.  Whoever has asked many
 * nodes at once can't use it before an answer is there: the first node that
 * is silent would keep those of all others waiting.  courier.remote_ready()
 * tells which answers are there, and when each was first seen, which is what
 * round trips and clock offsets are computed from.
 */
#include "pg_courier.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(courier_remote_ready);

/* Bounds of the pause between two looks at the sockets, microseconds. */
#define SHORTEST_PAUSE 10
#define LONGEST_PAUSE 2000

/*
 * Notes the time for connections whose answer has come since the last look.
 * Returns how many are still without.  A connection that has broken counts as
 * ready: fetching from it gives the error.
 */
static int
look(FmgrInfo *is_busy, int n, Datum *connections, Datum *ready, bool *missing)
{
	int			waiting = 0;

	for (int i = 0; i < n; i++)
	{
		if (!missing[i])
			continue;
		if (DatumGetInt32(FunctionCall1(is_busy, connections[i])) == 1)
		{
			waiting++;
			continue;
		}
		missing[i] = false;
		ready[i] = TimestampTzGetDatum(GetCurrentTimestamp());
	}
	return waiting;
}

/*
 * courier.remote_ready(dblink name, connections text[], patience int4)
 *	  → timestamptz[]
 */
Datum
courier_remote_ready(PG_FUNCTION_ARGS)
{
	char	   *schema = NameStr(*PG_GETARG_NAME(0));
	long		patience = PG_GETARG_INT32(2) * 1000L;
	Oid			text = TEXTOID;
	FmgrInfo	is_busy;
	Datum	   *connections;
	Datum	   *ready;
	bool	   *missing;
	int			n;
	int			dims[1];
	int			lower[1] = {1};
	instr_time	start;

	fmgr_info(LookupFuncName(list_make2(makeString(schema),
										makeString("dblink_is_busy")),
							 1, &text, false), &is_busy);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false,
					  TYPALIGN_INT, &connections, NULL, &n);
	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TIMESTAMPTZOID));
	ready = palloc0(sizeof(Datum) * n);
	missing = palloc(sizeof(bool) * n);
	memset(missing, true, sizeof(bool) * n);

	INSTR_TIME_SET_CURRENT(start);
	while (look(&is_busy, n, connections, ready, missing) > 0)
	{
		instr_time	now;
		long		elapsed;

		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		elapsed = (long) INSTR_TIME_GET_MICROSEC(now);
		if (elapsed >= patience)
			break;
		pg_usleep(Min(Max(elapsed / 8, SHORTEST_PAUSE), LONGEST_PAUSE));
		CHECK_FOR_INTERRUPTS();
	}

	dims[0] = n;
	PG_RETURN_ARRAYTYPE_P(construct_md_array(ready, missing, 1, dims, lower,
											 TIMESTAMPTZOID, sizeof(TimestampTz),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
