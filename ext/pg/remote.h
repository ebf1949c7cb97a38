/*
 * remote.h
 *	  What the files about links to nodes share.
 *
 * dblink owns the connections; it neither shows their PGconn nor waits in a
 * way that can be interrupted.  So remote_socket.c finds out which socket a
 * connection uses, which is enough to wait for it, to see whether bytes
 * still move, and to cut it off.  remote_link.c opens, writes and closes,
 * remote.c waits, remote_result.c fetches what has arrived.
 */
#ifndef COURIER_REMOTE_H
#define COURIER_REMOTE_H

#include "postgres.h"

#include <sys/types.h>

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/timestamp.h"

/* A socket, and the means to tell it from a later one of the same number. */
typedef struct CourierSocket
{
	int			fd;				/* -1: not known */
	ino_t		inode;
} CourierSocket;

/* Why the watch has cut a socket off. */
typedef enum CourierCut
{
	COURIER_CUT_NOT,
	COURIER_CUT_INTERRUPTED,	/* by a cancel or a terminate */
	COURIER_CUT_SILENT,			/* no byte moved for too long */
	COURIER_CUT_LATE,			/* not connected in time */
	COURIER_CUT_BARRIER			/* connecting, while somebody waits for all
								 * backends: to drop a database, say */
} CourierCut;

/* ---- remote_socket.c ---- */
extern void courier_sockets_remember(void);
extern CourierSocket courier_sockets_find_new(void);
extern CourierSocket courier_socket_of(int fd);
extern bool courier_socket_open(const CourierSocket *socket);
extern uint64 courier_socket_moved(const CourierSocket *socket);
extern int	courier_socket_unacknowledged(const CourierSocket *socket);
extern void courier_socket_cut(const CourierSocket *socket);
extern void courier_watch_connecting(int limit);
extern void courier_watch_sending(const CourierSocket *socket, int silence);
extern CourierCut courier_watch_end(void);

/* What came of a command string so far. */
typedef struct RemoteOutcome
{
	int			completed;		/* statements that succeeded */
	int			max_counts;
	Datum	   *counts;			/* rows each of them reported, int8 */
	char	   *value;			/* what the last one gave, or NULL */
	ErrorData  *error;			/* of the first that failed, or NULL */
} RemoteOutcome;

/* A connection that courier.remote_connect() has opened. */
typedef struct RemoteLink
{
	char		name[NAMEDATALEN];	/* hash key */
	CourierSocket socket;
	bool		in_flight;		/* a command is not known to be done */
	uint64		moved;			/* courier_socket_moved() when last looked */
	TimestampTz moved_at;		/* when that was first seen to be so */
	RemoteOutcome outcome;
	MemoryContext context;		/* owns what the outcome points to */
	text	   *kept;			/* a statement that is yet to be sent, or NULL */
	MemoryContext keeping;		/* owns that */
} RemoteLink;

/* Takes the rows of a result that are in SPI_tuptable. */
typedef void (*RemoteTake) (RemoteLink *link, void *arg);

/* ---- remote_memory.c ---- */
extern void courier_keep_memory(void);

/* ---- remote_link.c ---- */
extern RemoteLink *courier_find_link(Datum connection);
extern void courier_give_up(RemoteLink *link, FmgrInfo *disconnect_function,
							Datum connection);

/* ---- remote_result.c ---- */
extern const char *courier_dblink_schema(void);
extern Oid	courier_dblink_function(const char *name, int nargs);
extern SPIPlanPtr courier_result_plan(void);
extern void courier_outcome_reset(RemoteLink *link);
extern void courier_outcome_take(RemoteLink *link, void *arg);
extern bool courier_fetch_result(RemoteLink *link, SPIPlanPtr plan,
								 Datum connection, RemoteTake take, void *arg);

#endif							/* COURIER_REMOTE_H */
