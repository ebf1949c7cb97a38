/*
 * remote_keep.c
 *	  A long string of statements that comes in parts, and is then sent over a
 *	  link.
 *
 * As one parameter it would be in this process twice before dblink and libpq
 * make their own copies, and as often in the client that it comes from.  It
 * is kept with the link, so that the client can forget it before it is sent.
 */
#include "pg_courier.h"

#include "remote.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(courier_remote_keep);
PG_FUNCTION_INFO_V1(courier_remote_send_kept);

extern Datum courier_remote_send(PG_FUNCTION_ARGS);

/*
 * courier.remote_keep(connection text, part text, behind int4, room int4)
 *
 * Keeps a part behind so many bytes that are there already; with 0 it is the
 * first of a string of "room" bytes, in place of one that was not sent.
 */
Datum
courier_remote_keep(PG_FUNCTION_ARGS)
{
	RemoteLink *link = courier_find_link(PG_GETARG_DATUM(0));
	text	   *part = PG_GETARG_TEXT_PP(1);
	Size		length = VARSIZE_ANY_EXHDR(part);
	Size		behind = Max(PG_GETARG_INT32(2), 0);

	if (behind == 0)
	{
		link->kept = NULL;
		MemoryContextReset(link->keeping);
		link->kept = MemoryContextAlloc(link->keeping,
										VARHDRSZ + Max(PG_GETARG_INT32(3), 0));
		SET_VARSIZE(link->kept, VARHDRSZ);
	}
	if (link->kept == NULL || VARSIZE(link->kept) != VARHDRSZ + behind ||
		GetMemoryChunkSpace(link->kept) < VARHDRSZ + behind + length)
		elog(ERROR, "there is no statement that this is a part of");
	memcpy((char *) link->kept + VARHDRSZ + behind, VARDATA_ANY(part), length);
	SET_VARSIZE(link->kept, VARHDRSZ + behind + length);
	PG_RETURN_VOID();
}

/*
 * courier.remote_send_kept(connection text, silence int4)
 *
 * Sends what is kept, like remote_send().
 */
Datum
courier_remote_send_kept(PG_FUNCTION_ARGS)
{
	RemoteLink *link = courier_find_link(PG_GETARG_DATUM(0));
	text	   *statement = link->kept;

	if (statement == NULL)
		elog(ERROR, "there is no statement to send");
	link->kept = NULL;
	(void) DirectFunctionCall3(courier_remote_send, PG_GETARG_DATUM(0),
							   PointerGetDatum(statement), PG_GETARG_DATUM(1));
	MemoryContextReset(link->keeping);
	PG_RETURN_VOID();
}
