/*
 * wakeup.c
 *	  Waiting until something that was queued has been committed.
 *
 * Who waits remembers a count: read it, look into the queue, and if there is
 * nothing wait until it moves.  Preloaded, it is the database's counter of
 * shared.c, and a commit sets the waiter's latch.  Otherwise, or with more
 * waiters than shared memory has room for, the waiter polls, with pauses that
 * grow: in the one case the queue's indexes, in the other the counter.
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(courier_wait_for_changes);

/* Pauses between two polls, in milliseconds. */
#define SHORTEST_PAUSE 2
#define LONGEST_PAUSE 200

/* Not preloaded: how often polling has found something, and up to where. */
static uint64 found_by_polling = 0;
static struct varlena *polled_up_to = NULL;

/*
 * Moves with every commit that waiters should look after: it has queued
 * something, or changed the configuration.  To be read before looking.
 */
uint64
courier_wakeup_count(void)
{
	return courier_preloaded() ? courier_shared_signals() : found_by_polling;
}

/* Moves only with commits that have queued something. */
static uint64
queued_count(void)
{
	return courier_preloaded() ? courier_shared_commits() : found_by_polling;
}

/* What a waiting process is seen to wait for. */
uint32
courier_wakeup_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = courier_wait_event("CourierWaitForChanges");
	return event;
}

/* Sleeps until the latch is set, or so long. */
static void
sleep_on_latch(long milliseconds, uint32 wait_event)
{
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  milliseconds, wait_event) & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Has the count moved?  Without shared memory this looks into the queue. */
static bool
has_moved(uint64 seen)
{
	if (!courier_preloaded() && found_by_polling == seen &&
		courier_queue_moved(&polled_up_to))
		found_by_polling++;
	return courier_wakeup_count() != seen;
}

static bool
poll_for_changes(uint64 seen, long timeout_ms, uint32 wait_event)
{
	long		pause = SHORTEST_PAUSE;

	while (!has_moved(seen))
	{
		if (timeout_ms <= 0)
			return false;
		pause = Min(pause, timeout_ms);
		sleep_on_latch(pause, wait_event);
		timeout_ms -= pause;
		pause = Min(2 * pause, LONGEST_PAUSE);
	}
	return true;
}

static void
release_waiter(int code, Datum waiter)
{
	courier_waiter_release(DatumGetInt32(waiter));
}

/*
 * Waits until the count is another than the one seen: true.  False when the
 * timeout is over, or the latch was set by somebody else; the caller then
 * looks after what its latch is for.  Interrupts are served.  Without shared
 * memory it needs a transaction.
 */
bool
courier_wakeup_wait(uint64 seen, long timeout_ms, uint32 wait_event)
{
	int			waiter = courier_preloaded() ? courier_waiter_take() : -1;

	if (waiter < 0)
		return poll_for_changes(seen, timeout_ms, wait_event);

	PG_ENSURE_ERROR_CLEANUP(release_waiter, Int32GetDatum(waiter));
	{
		courier_waiter_arm(waiter);
		if (courier_shared_signals() == seen && timeout_ms > 0)
			sleep_on_latch(timeout_ms, wait_event);
	}
	PG_END_ENSURE_ERROR_CLEANUP(release_waiter, Int32GetDatum(waiter));
	courier_waiter_release(waiter);
	return courier_shared_signals() != seen;
}

/* ---- courier.wait_for_changes ---- */

static Oid
courier_function(const char *name, int nargs, const Oid *types)
{
	return LookupFuncName(list_make2(makeString(pstrdup(COURIER_SCHEMA)),
									 makeString(pstrdup(name))),
						  nargs, types, false);
}

/*
 * The same errors as from functions that are written in SQL.  A role is asked
 * for its rights once a session: all it learns here is that there is work.
 */
static void
require_rights(void)
{
	static Oid	administrator = InvalidOid;
	Oid			text = TEXTOID;

	if (GetUserId() != administrator)
	{
		OidFunctionCall0(courier_function("require_administrator", 0, NULL));
		administrator = GetUserId();
	}
	if (IsolationUsesXactSnapshot())
		OidFunctionCall1(courier_function("require_read_committed", 1, &text),
						 CStringGetTextDatum("wait_for_changes"));
}

static int64
milliseconds(Interval *span)
{
	int64		days = span->day + (int64) span->month * DAYS_PER_MONTH;

	return Max(days * (USECS_PER_DAY / 1000) + span->time / 1000, 0);
}

/*
 * courier.wait_for_changes(timeout interval) → boolean
 *
 * What counts is what was committed since the session's last call returned, or
 * since this one began if it is the first: so nothing is missed between two
 * calls.
 */
Datum
courier_wait_for_changes(PG_FUNCTION_ARGS)
{
	static bool begun = false;
	static uint64 seen;
	int64		timeout = milliseconds(PG_GETARG_INTERVAL_P(0));
	TimestampTz start = GetCurrentTimestamp();

	require_rights();
	if (!begun)
	{
		if (!courier_preloaded())
			(void) courier_queue_moved(&polled_up_to);
		seen = queued_count();
		begun = true;
	}
	for (;;)
	{
		uint64		count = courier_wakeup_count();
		int64		elapsed = (GetCurrentTimestamp() - start) / 1000;
		long		rest = (long) Min(Max(timeout - elapsed, 0), INT_MAX);
		bool		moved = queued_count() != seen;

		if (!moved && rest == 0 && !courier_preloaded())
			moved = has_moved(count);
		if (moved)
			seen = queued_count();
		if (moved || rest == 0)
			PG_RETURN_BOOL(moved);
		(void) courier_wakeup_wait(count, rest, courier_wakeup_event());
	}
}
