/*
 * queue_look.c
 *	  Finds out whether, and where, something lies in the queue between two
 *	  positions; see queue_scan.h.
 */
#include "queue_scan.h"

#include "access/tableam.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(courier_look);

/*
 * The highest transaction id that a scan of a (xid, k) index finds; 0 if there
 * is none.
 */
static uint64
highest_xid(SegmentScan *scan, Datum end)
{
	while (index_getnext_tid(scan->scan, BackwardScanDirection) != NULL)
	{
		uint64		xid = courier_scan_xid(scan, XID_INDEX_XID);

		CHECK_FOR_INTERRUPTS();
		if (courier_sees(end, xid) && index_fetch_heap(scan->scan, scan->slot))
			return xid;
	}
	return 0;
}

/*
 * The lowest k of the transactions that it finds, or a lower one: of those that
 * were rolled back, which the index alone does not tell.  A backlog is not gone
 * through in the table twice.
 */
static uint64
lowest_k(SegmentScan *scan, Datum end)
{
	uint64		lowest = PG_UINT64_MAX;

	while (index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		uint64		k = DatumGetLSN(courier_scan_column(scan, XID_INDEX_K));

		CHECK_FOR_INTERRUPTS();
		if (k < lowest &&
			courier_sees(end, courier_scan_xid(scan, XID_INDEX_XID)))
			lowest = k;
	}
	return lowest;
}

/* Looks at the transactions from an id on, up to but not including another. */
static void
look_between(SegmentScan *scan, FullTransactionId from, FullTransactionId to,
			 Datum end, QueueExtent *extent)
{
	ScanKeyData keys[2];
	uint64		last_xid;

	ScanKeyInit(&keys[0], XID_INDEX_XID, BTGreaterEqualStrategyNumber,
				F_XID8GE, FullTransactionIdGetDatum(from));
	ScanKeyInit(&keys[1], XID_INDEX_XID, BTLessStrategyNumber,
				F_XID8LT, FullTransactionIdGetDatum(to));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	last_xid = highest_xid(scan, end);
	if (last_xid == 0)
		return;
	index_rescan(scan->scan, keys, 2, NULL, 0);
	if (!extent->found)
		extent->first_k = PG_UINT64_MAX;
	extent->first_k = Min(extent->first_k, lowest_k(scan, end));
	extent->last_xid = Max(extent->last_xid, last_xid);
	extent->found = true;
}

/* What of an interval the active snapshot sees. */
QueueExtent
courier_queue_extent(QueueInterval *interval)
{
	CourierPosition *start = (CourierPosition *) DatumGetPointer(interval->start);
	CourierPosition *end = (CourierPosition *) DatumGetPointer(interval->end);
	QueueExtent extent = {0};

	for (int segment = 0; segment < COURIER_SEGMENTS; segment++)
	{
		SegmentScan scan;

		if (courier_scan_open(&scan, segment, "xid_idx", 2))
		{
			look_between(&scan, start->xmax, end->xmax, interval->end,
						 &extent);
			for (uint32 i = 0; i < start->running; i++)
			{
				FullTransactionId next = start->xids[i];

				FullTransactionIdAdvance(&next);
				look_between(&scan, start->xids[i], next, interval->end,
							 &extent);
			}
		}
		courier_scan_close(&scan);
	}
	return extent;
}

/*
 * Has anything that was queued been committed since a position?  The position
 * is moved to now; if there was none (NULL), it only begins there.
 */
bool
courier_queue_moved(struct varlena **position)
{
	QueueInterval interval;
	bool		found = false;
	struct varlena *now;

	PushActiveSnapshot(GetLatestSnapshot());
	interval.end = courier_position_now();
	if (*position != NULL)
	{
		interval.start = PointerGetDatum(*position);
		found = courier_queue_extent(&interval).found;
	}
	PopActiveSnapshot();

	now = MemoryContextAlloc(TopMemoryContext,
							 VARSIZE(DatumGetPointer(interval.end)));
	memcpy(now, DatumGetPointer(interval.end),
		   VARSIZE(DatumGetPointer(interval.end)));
	pfree(DatumGetPointer(interval.end));
	if (*position != NULL)
		pfree(*position);
	*position = now;
	return found;
}

/*
 * courier.look(p, s) → (first_k, last_xid): the lowest k, or one below it, and
 * the highest transaction id of (p, s], NULL if it is empty.
 */
Datum
courier_look(PG_FUNCTION_ARGS)
{
	QueueInterval interval = {PointerGetDatum(PG_GETARG_VARLENA_P(0)),
	PointerGetDatum(PG_GETARG_VARLENA_P(1))};
	QueueExtent extent = courier_queue_extent(&interval);
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	if (extent.found)
		courier_flush_transaction(extent.last_xid);
	nulls[0] = nulls[1] = !extent.found;
	values[0] = LSNGetDatum(extent.first_k);
	values[1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(extent.last_xid));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
