/*
 * remote_link.c
 *	  Links to nodes: named dblink connections that are opened, written to and
 *	  closed without ever hanging on the other side.
 *
 * Connecting and sending block inside libpq, sending for as long as the
 * kernel does not take the whole string: dblink has no other way.  Both are
 * watched (remote_socket.c), so that they can be cancelled, and end when
 * nothing happens any more.  Connecting is also cut off, and begun again, when
 * DROP DATABASE or its like wait for all backends to close their files.
 *
 * A link whose state is unknown is cut off and closed, without a farewell
 * that might wait for the other side.
 */
#include "pg_courier.h"

#include "miscadmin.h"
#include "remote.h"
#include "stream.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(courier_remote_connect);
PG_FUNCTION_INFO_V1(courier_remote_disconnect);
PG_FUNCTION_INFO_V1(courier_remote_send);

static HTAB *links = NULL;

/* The link of that name, made if need be. */
RemoteLink *
courier_find_link(Datum connection)
{
	char		name[NAMEDATALEN];
	RemoteLink *link;
	bool		found;

	strlcpy(name, TextDatumGetCString(connection), sizeof(name));
	if (links == NULL)
	{
		HASHCTL		control = {
			.keysize = NAMEDATALEN,
			.entrysize = sizeof(RemoteLink),
			.hcxt = TopMemoryContext,
		};

		links = hash_create("pg_courier links", 8, &control,
							HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	link = hash_search(links, name, HASH_FIND, NULL);
	if (link == NULL)
	{
		MemoryContext context = AllocSetContextCreate(TopMemoryContext,
													  "pg_courier link",
													  ALLOCSET_SMALL_SIZES);
		MemoryContext keeping = AllocSetContextCreate(TopMemoryContext,
													  "pg_courier kept statement",
													  ALLOCSET_SMALL_SIZES);

		link = hash_search(links, name, HASH_ENTER, &found);
		link->socket.fd = -1;
		link->in_flight = false;
		link->moved = 0;
		link->moved_at = GetCurrentTimestamp();
		link->context = context;
		link->kept = NULL;
		link->keeping = keeping;
		memset(&link->outcome, 0, sizeof(link->outcome));
	}
	return link;
}

static void
forget_link(RemoteLink *link)
{
	MemoryContextDelete(link->keeping);
	MemoryContextDelete(link->context);
	(void) hash_search(links, link->name, HASH_REMOVE, NULL);
}

/*
 * Closes dblink's connections whose names are like a pattern, if "name" is
 * NULL all those of the engine.
 */
static void
disconnect(const char *name)
{
	const char *schema = quote_identifier(courier_dblink_schema());
	char	   *sql = psprintf("SELECT %s.dblink_disconnect(name)"
							   " FROM pg_catalog.unnest(%s.dblink_get_connections()) AS name"
							   " WHERE name %s", schema, schema,
							   name == NULL ? "LIKE 'pg\\_courier\\_%'" :
							   psprintf("= %s", quote_literal_cstr(name)));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not close the connections of the engine");
	SPI_finish();
}

/*
 * Closes the engine's connections, which may be in the middle of a transaction
 * on the node: called when the engine could not do it.
 */
void
courier_close_connections(void)
{
	HASH_SEQ_STATUS sequence;
	RemoteLink *link;

	if (links != NULL)
	{
		hash_seq_init(&sequence, links);
		while ((link = hash_seq_search(&sequence)) != NULL)
		{
			courier_socket_cut(&link->socket);
			forget_link(link);
		}
	}
	courier_close_streams();
	disconnect(NULL);
}

/* courier.remote_disconnect(connection text): does not wait for the node */
Datum
courier_remote_disconnect(PG_FUNCTION_ARGS)
{
	RemoteLink *link = courier_find_link(PG_GETARG_DATUM(0));

	/* only one that has nothing to do is ended with a word of farewell */
	if (link->in_flight)
		courier_socket_cut(&link->socket);
	forget_link(link);
	disconnect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	PG_RETURN_VOID();
}

/*
 * Has dblink connect, for so many milliseconds.  Returns why the attempt was
 * cut off, if it was; any other failure is raised.
 */
static CourierCut
try_connect(Oid connect, Datum connection, Datum server, int timeout)
{
	MemoryContext old_context = CurrentMemoryContext;
	volatile CourierCut cut = COURIER_CUT_NOT;

	courier_sockets_remember();
	courier_watch_connecting(timeout);
	PG_TRY();
	{
		(void) OidFunctionCall2(connect, connection, server);
		(void) courier_watch_end();
	}
	PG_CATCH();
	{
		cut = courier_watch_end();
		if (cut == COURIER_CUT_NOT)
			PG_RE_THROW();

		/* it only says that its socket was shut down; a better one follows */
		MemoryContextSwitchTo(old_context);
		FlushErrorState();
	}
	PG_END_TRY();
	return cut;
}

/*
 * courier.remote_connect(connection text, server text, timeout int4)
 *
 * Opens a link, in place of one of the same name that an earlier user of the
 * session left behind.
 */
Datum
courier_remote_connect(PG_FUNCTION_ARGS)
{
	Datum		connection = PG_GETARG_DATUM(0);
	int			timeout = PG_GETARG_INT32(2);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  timeout);
	Oid			connect = courier_dblink_function("dblink_connect", 2);
	RemoteLink *link = courier_find_link(connection);
	CourierCut	cut;

	courier_keep_memory();
	courier_socket_cut(&link->socket);
	forget_link(link);
	disconnect(TextDatumGetCString(connection));

	do
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		cut = try_connect(connect, connection, PG_GETARG_DATUM(1),
						  Max(rest, 1));
		/* this is what others may wait for, too */
		CHECK_FOR_INTERRUPTS();
	} while (cut == COURIER_CUT_BARRIER && GetCurrentTimestamp() < end);

	if (cut != COURIER_CUT_NOT)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not establish connection"),
				 errdetail("There was no answer within %d ms.", timeout)));
	link = courier_find_link(connection);
	link->socket = courier_sockets_find_new();
	PG_RETURN_VOID();
}

/*
 * Closes a link whose state is not known.  "disconnect_function" was looked up
 * before, so this needs no catalog and may be called while an error is handled.
 */
void
courier_give_up(RemoteLink *link, FmgrInfo *disconnect_function,
				Datum connection)
{
	courier_socket_cut(&link->socket);
	forget_link(link);
	(void) FunctionCall1(disconnect_function, connection);
}

/*
 * courier.remote_send(connection text, command text, silence int4)
 *
 * Returns when all is sent.  When no byte moves for "silence" milliseconds
 * the link is closed.
 */
Datum
courier_remote_send(PG_FUNCTION_ARGS)
{
	Datum		connection = PG_GETARG_DATUM(0);
	int			silence = PG_GETARG_INT32(2);
	Oid			send = courier_dblink_function("dblink_send_query", 2);
	RemoteLink *link = courier_find_link(connection);
	FmgrInfo	disconnect_function;
	volatile bool sent = false;
	CourierCut	cut;

	fmgr_info(courier_dblink_function("dblink_disconnect", 1),
			  &disconnect_function);
	courier_outcome_reset(link);
	link->in_flight = true;
	courier_watch_sending(&link->socket, silence);
	PG_TRY();
	{
		sent = DatumGetInt32(OidFunctionCall2(send, connection,
											  PG_GETARG_DATUM(1))) == 1;
	}
	PG_FINALLY();
	{
		cut = courier_watch_end();
	}
	PG_END_TRY();

	link->moved = courier_socket_moved(&link->socket);
	link->moved_at = GetCurrentTimestamp();
	if (sent && cut == COURIER_CUT_NOT)
		PG_RETURN_VOID();

	courier_give_up(link, &disconnect_function, connection);
	CHECK_FOR_INTERRUPTS();
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 cut == COURIER_CUT_SILENT ?
			 errmsg("the other side has taken nothing of a command for %d ms",
					silence) :
			 errmsg("could not send to the connection \"%s\"",
					TextDatumGetCString(connection))));
}
