/*
 * queue_next.c
 *	  The way of a single change: waiting for it, finding it and reading it in
 *	  one call.
 */
#include "queue_scan.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(courier_next_page);

/* Pauses between two looks without shared memory, in milliseconds. */
#define SHORTEST_PAUSE 2
#define LONGEST_PAUSE 200

/* Columns of next_page()'s result. */
enum
{
	NEXT_POSITION,
	NEXT_GENERATION,
	NEXT_LAST_XID,
	NEXT_PAGE,
	NEXT_TOOK,
	NEXT_COLUMNS
};

/* What lies behind a position. */
typedef struct QueueNews
{
	QueueInterval interval;
	QueueExtent extent;
	int64		generation;
} QueueNews;

static void
look_for_news(QueueNews *news)
{
	news->interval.end = courier_position_now();
	news->extent = courier_queue_extent(&news->interval);
	news->generation = courier_generation();
}

/* Waits for a commit, or without shared memory for a while. */
static void
pause_for_news(uint64 count, long rest, long *pause)
{
	if (courier_preloaded())
	{
		(void) courier_wakeup_wait(count, rest, courier_wakeup_event());
		return;
	}
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  Min(rest, *pause), courier_wakeup_event()) & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	*pause = Min(2 * *pause, LONGEST_PAUSE);
}

/*
 * Looks until something is queued, the configuration is no longer of that
 * generation, or the time is over.  The last look's snapshot stays active.
 */
static void
await_news(QueueNews *news, int64 generation, int32 timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	long		pause = SHORTEST_PAUSE;

	for (;;)
	{
		uint64		count = courier_wakeup_count();	/* before the snapshot */
		long		rest;

		PushActiveSnapshot(GetLatestSnapshot());
		look_for_news(news);
		rest = timeout_ms - (long) ((GetCurrentTimestamp() - start) / 1000);
		if (news->extent.found || news->generation != generation || rest <= 0)
			return;
		PopActiveSnapshot();
		pause_for_news(count, rest, &pause);
	}
}

/*
 * courier.next_page(start, chunks, bytes, known_generation, timeout) →
 * (now, generation, last_xid, page, took): look() and read_queue() in one.  The
 * interval is (start, now], and the page its first.  If there is nothing it
 * waits for so many milliseconds until there is.  Reading the page took so many
 * microseconds; looking is not counted, which may be done many times.
 */
Datum
courier_next_page(PG_FUNCTION_ARGS)
{
	QueueNews	news = {{PointerGetDatum(PG_GETARG_VARLENA_P(0)), 0}};
	int32		timeout = PG_GETARG_INT32(4);
	bool		waits = timeout > 0 && !IsolationUsesXactSnapshot();
	TupleDesc	desc;
	Datum		values[NEXT_COLUMNS];
	bool		nulls[NEXT_COLUMNS] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	if (waits)
		await_news(&news, PG_GETARG_INT64(3), timeout);
	else
		look_for_news(&news);

	values[NEXT_POSITION] = news.interval.end;
	values[NEXT_GENERATION] = Int64GetDatum(news.generation);
	nulls[NEXT_LAST_XID] = nulls[NEXT_PAGE] = nulls[NEXT_TOOK] =
		!news.extent.found;
	if (news.extent.found)
	{
		TimestampTz began = GetCurrentTimestamp();
		ChunkPlace	place = {LSNGetDatum(news.extent.first_k),
			FullTransactionIdGetDatum(FullTransactionIdFromU64(0)),
		Int32GetDatum(-1)};

		courier_flush_transaction(news.extent.last_xid);
		values[NEXT_LAST_XID] =
			FullTransactionIdGetDatum(FullTransactionIdFromU64(news.extent.last_xid));
		values[NEXT_PAGE] =
			PointerGetDatum(courier_queue_page(&news.interval, &place,
											   PG_GETARG_INT32(1),
											   PG_GETARG_INT32(2)));
		values[NEXT_TOOK] = Int64GetDatum(GetCurrentTimestamp() - began);
	}
	if (waits)
		PopActiveSnapshot();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
