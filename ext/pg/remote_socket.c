/*
 * remote_socket.c
 *	  The socket under a dblink connection: finding it, seeing whether bytes
 *	  move, cutting it off.
 *
 * dblink sends and connects in libpq's blocking manner: inside, poll() is
 * repeated whatever signal arrives.  But a socket that is shut down makes
 * poll() and everything after it return at once.  So while such a call lasts,
 * a timer looks ten times a second whether the backend has been told to stop
 * or no byte has moved for too long, and then shuts the socket down.  All a
 * handler calls here is safe in a signal handler: fstat, getsockopt, ioctl,
 * shutdown.
 *
 * A socket's number may be used again once dblink has closed it, hence the
 * inode beside it, which is the kernel's own number of the socket.
 */
#include "remote.h"

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <linux/tcp.h>
#endif

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

/* How often the watch looks, in milliseconds. */
#define WATCH_INTERVAL 100

/*
 * Sockets are looked for up to a number that so many free ones precede: the
 * kernel hands out the lowest free one.
 */
#define FREE_DESCRIPTORS 64
#define MAX_DESCRIPTORS 4096

/* Sockets that were open before connecting: inode by number, 0 for none. */
static ino_t *remembered = NULL;
static int	nremembered = 0;

/* The watch. */
static TimeoutId watch_timeout = MAX_TIMEOUTS;
static volatile sig_atomic_t watching = false;
static volatile CourierCut cut = COURIER_CUT_NOT;
static CourierSocket watched;	/* fd -1: whatever was not remembered */
static TimestampTz watch_since; /* when bytes moved last, or of the start */
static uint64 watch_moved;
static int	watch_limit;		/* milliseconds */

/* The inode of a socket, or 0 if the number is not one of a socket. */
static ino_t
socket_inode(int fd, bool *used)
{
	struct stat status;

	*used = fstat(fd, &status) == 0;
	return *used && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

/* Notes which sockets are open. */
void
courier_sockets_remember(void)
{
	if (remembered == NULL)
		remembered = MemoryContextAlloc(TopMemoryContext,
										sizeof(ino_t) * MAX_DESCRIPTORS);
	for (int fd = 0, unused = 0;
		 fd < MAX_DESCRIPTORS && unused < FREE_DESCRIPTORS; fd++)
	{
		bool		used;

		remembered[fd] = socket_inode(fd, &used);
		unused = used ? 0 : unused + 1;
		nremembered = fd + 1;
	}
}

/* The next socket from "fd" on that was not open then, or one with fd -1. */
static CourierSocket
next_new_socket(int fd)
{
	for (int unused = 0;
		 fd < MAX_DESCRIPTORS && unused < FREE_DESCRIPTORS; fd++)
	{
		bool		used;
		ino_t		inode = socket_inode(fd, &used);

		if (inode != 0 && (fd >= nremembered || inode != remembered[fd]))
			return (CourierSocket) {fd, inode};
		unused = used ? 0 : unused + 1;
	}
	return (CourierSocket) {-1, 0};
}

/* The family of a socket that is connected to somewhere, or AF_UNSPEC. */
static int
peer_family(int fd)
{
	struct sockaddr_storage address;
	socklen_t	length = sizeof(address);

	if (getpeername(fd, (struct sockaddr *) &address, &length) != 0)
		return AF_UNSPEC;
	return address.ss_family == AF_INET6 ? AF_INET : address.ss_family;
}

/*
 * The connected socket that has been opened since.  Name services may keep
 * one of their own, which is a local one: a network socket is preferred, and
 * without a single candidate none is named.
 */
CourierSocket
courier_sockets_find_new(void)
{
	CourierSocket found[2] = {{-1, 0}, {-1, 0}};	/* network, local */
	int			count[2] = {0, 0};

	CourierSocket next = {-1, 0};

	while ((next = next_new_socket(next.fd + 1)).fd >= 0)
	{
		int			family = peer_family(next.fd);
		int			kind = family == AF_INET ? 0 : 1;

		if (family == AF_UNSPEC)
			continue;
		found[kind] = next;
		count[kind]++;
	}
	for (int kind = 0; kind < 2; kind++)
		if (count[kind] > 0)
			return count[kind] == 1 ? found[kind] : (CourierSocket) {-1, 0};
	return (CourierSocket) {-1, 0};
}

CourierSocket
courier_socket_of(int fd)
{
	bool		used;

	return (CourierSocket) {fd, socket_inode(fd, &used)};
}

/* Is it still open?  libpq closes the socket of a broken connection. */
bool
courier_socket_open(const CourierSocket *socket)
{
	bool		used;

	return socket->fd >= 0 && socket_inode(socket->fd, &used) == socket->inode;
}

/* Bytes that are sent but not yet taken by the other side's kernel. */
int
courier_socket_unacknowledged(const CourierSocket *socket)
{
	int			bytes = 0;

#ifdef SIOCOUTQ
	if (socket->fd >= 0 && ioctl(socket->fd, SIOCOUTQ, &bytes) != 0)
		bytes = 0;
#endif
	return bytes;
}

/*
 * A number that changes whenever the other side has taken or sent bytes.  A
 * local socket has no counters; there it is what the other side has yet to
 * read.
 */
uint64
courier_socket_moved(const CourierSocket *socket)
{
#ifdef __linux__
	struct tcp_info info = {0};
	socklen_t	length = sizeof(info);

	if (socket->fd < 0)
		return 0;
	if (getsockopt(socket->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
		length >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
		return info.tcpi_bytes_acked + info.tcpi_bytes_received;
#endif
	return (uint64) courier_socket_unacknowledged(socket);
}

/* Makes everything that waits for the socket, or will, return at once. */
void
courier_socket_cut(const CourierSocket *socket)
{
	if (courier_socket_open(socket))
		(void) shutdown(socket->fd, SHUT_RDWR);
}

static void
cut_watched(void)
{
	CourierSocket next = {-1, 0};

	if (watched.fd >= 0)
	{
		courier_socket_cut(&watched);
		return;
	}
	while ((next = next_new_socket(next.fd + 1)).fd >= 0)
		(void) shutdown(next.fd, SHUT_RDWR);
}

/* The timer's handler: runs inside a signal handler. */
static void
look(void)
{
	TimestampTz now;

	if (!watching)
		return;
	now = GetCurrentTimestamp();
	if (watched.fd >= 0)
	{
		uint64		moved = courier_socket_moved(&watched);

		if (moved != watch_moved)
		{
			watch_moved = moved;
			watch_since = now;
		}
	}
	if (cut == COURIER_CUT_NOT)
	{
		if (QueryCancelPending || ProcDiePending)
			cut = COURIER_CUT_INTERRUPTED;
		else if (ProcSignalBarrierPending && watched.fd < 0)
			cut = COURIER_CUT_BARRIER;
		else if (now >= TimestampTzPlusMilliseconds(watch_since, watch_limit))
			cut = watched.fd >= 0 ? COURIER_CUT_SILENT : COURIER_CUT_LATE;
	}

	/* again and again: libpq may go on with a host's next address */
	if (cut != COURIER_CUT_NOT)
		cut_watched();
	enable_timeout_after(watch_timeout, WATCH_INTERVAL);
}

static void
begin_watch(const CourierSocket *socket, int limit)
{
	if (watch_timeout == MAX_TIMEOUTS)
		watch_timeout = RegisterTimeout(USER_TIMEOUT, look);
	watched = *socket;
	watch_since = GetCurrentTimestamp();
	watch_moved = courier_socket_moved(socket);
	watch_limit = limit;
	cut = COURIER_CUT_NOT;
	watching = true;
	enable_timeout_after(watch_timeout, WATCH_INTERVAL);
}

/*
 * While a connection is made, after courier_sockets_remember(): sockets that
 * are new are cut off after "limit" milliseconds, on a cancel, or when other
 * backends wait for this one to take notice of something.
 */
void
courier_watch_connecting(int limit)
{
	CourierSocket unknown = {-1, 0};

	begin_watch(&unknown, limit);
}

/*
 * While a command is sent: the socket is cut off when no byte has moved for
 * "silence" milliseconds, or on a cancel.  Without a known socket nothing is
 * watched.
 */
void
courier_watch_sending(const CourierSocket *socket, int silence)
{
	cut = COURIER_CUT_NOT;
	if (courier_socket_open(socket))
		begin_watch(socket, silence);
}

/* Ends either, and says whether the socket was cut off. */
CourierCut
courier_watch_end(void)
{
	if (watching)
	{
		watching = false;
		disable_timeout(watch_timeout, false);
	}
	return cut;
}
