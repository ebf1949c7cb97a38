/*
 * queue_unapplied.c
 *	  Finds out whether the queue holds anything that a subscription at a
 *	  given position has not applied.
 *
 * Rotation asks it of a segment before that is truncated, so a wrong "no"
 * loses changes.  It goes by transaction id, like the readers: a chunk with a
 * small K may have been committed long after others with a larger one.
 *
 * A position is a snapshot P, and then P's transactions are applied; or
 * P|S|K|XID, and then those of S up to (K, XID) are applied too.  What is not
 * applied is therefore
 *	  what neither P nor S sees, found through the index on (xid, k), and
 *	  what S sees but P does not, behind (K, XID), found through that on k.
 * Both scans begin where that can be found, and end with the first hit: a
 * segment is never read through, unless it holds what an aborted transaction
 * left.
 *
 * The locks of the scans are given back at once: a session that waits for a
 * subscription in a long transaction must not hold up rotation.
 */
#include "queue_scan.h"

#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(courier_unapplied_since);

/* What a subscription has applied, and what is asked about. */
typedef struct AppliedPosition
{
	Datum		start;			/* P */
	bool		inside;			/* has S, K and XID */
	Datum		end;			/* S */
	uint64		k;
	uint64		xid;

	bool		bounded;		/* only what target sees is asked for */
	Datum		target;
} AppliedPosition;

static uint64
snapshot_xmax(Datum snapshot)
{
	CourierPosition *position = (CourierPosition *) DatumGetPointer(snapshot);

	return U64FromFullTransactionId(position->xmax);
}

static uint64
snapshot_xmin(Datum snapshot)
{
	CourierPosition *position = (CourierPosition *) DatumGetPointer(snapshot);

	return U64FromFullTransactionId(position->xmin);
}

static Datum
xid_datum(uint64 xid)
{
	return FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
}

/* Parses "P" or "P|S|K|XID". */
static void
parse_position(char *text, AppliedPosition *position)
{
	char	   *parts[4];
	int			nparts = 0;

	for (char *part = text; part != NULL && nparts < 4; nparts++)
	{
		char	   *bar = strchr(part, '|');

		parts[nparts] = part;
		part = NULL;
		if (bar != NULL)
		{
			*bar = '\0';
			part = bar + 1;
		}
	}
	if (nparts != 1 && nparts != 4)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid position of a subscription"),
				 errhint("It is a snapshot, or snapshot|snapshot|lsn|xid.")));
	position->start = DirectFunctionCall1(pg_snapshot_in,
										  CStringGetDatum(parts[0]));
	position->inside = nparts == 4;
	if (!position->inside)
		return;
	position->end = DirectFunctionCall1(pg_snapshot_in,
										CStringGetDatum(parts[1]));
	position->k = DatumGetLSN(DirectFunctionCall1(pg_lsn_in,
												  CStringGetDatum(parts[2])));
	position->xid =
		U64FromFullTransactionId(DatumGetFullTransactionId(DirectFunctionCall1(xid8in,
																			   CStringGetDatum(parts[3]))));
}

static bool
is_applied(AppliedPosition *position, uint64 k, uint64 xid)
{
	if (courier_sees(position->start, xid))
		return true;
	return position->inside && courier_sees(position->end, xid) &&
		(k < position->k || (k == position->k && xid <= position->xid));
}

/* Looks for the first visible chunk that is not applied. */
static bool
find_unapplied(SegmentScan *scan, int xid_column, int k_column,
			   AppliedPosition *position, int64 *clock)
{
	uint64		judged = 0;		/* the transaction looked at last */
	bool		wanted = false;

	while (index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		uint64		xid = courier_scan_xid(scan, xid_column);
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (xid != judged)
		{
			/* all chunks of a transaction have the same K */
			uint64		k = DatumGetLSN(courier_scan_column(scan, k_column));

			judged = xid;
			wanted = (!position->bounded ||
					  courier_sees(position->target, xid)) &&
				!is_applied(position, k, xid);
		}
		if (!wanted || !index_fetch_heap(scan->scan, scan->slot))
			continue;
		*clock = DatumGetInt64(slot_getattr(scan->slot, QUEUE_CLOCK, &isnull));
		return true;
	}
	return false;
}

/* The transactions from an id on, and below another unless that is 0. */
static bool
find_by_xid(SegmentScan *scan, uint64 from, uint64 below,
			AppliedPosition *position, int64 *clock)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], XID_INDEX_XID, BTGreaterEqualStrategyNumber,
				F_XID8GE, xid_datum(from));
	ScanKeyInit(&keys[1], XID_INDEX_XID, BTLessStrategyNumber,
				F_XID8LT, xid_datum(below == 0 ? PG_UINT64_MAX : below));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	return find_unapplied(scan, XID_INDEX_XID, XID_INDEX_K, position, clock);
}

/* What neither P nor, if there is one, S sees. */
static bool
find_unseen(SegmentScan *scan, AppliedPosition *position, int64 *clock)
{
	Datum		last = position->inside ? position->end : position->start;
	CourierPosition *seen = (CourierPosition *) DatumGetPointer(last);
	uint64		below = 0;

	if (position->bounded)
	{
		below = snapshot_xmax(position->target);
		if (below == 0)
			return false;
	}
	for (uint32 i = 0; i < seen->running; i++)
	{
		uint64		xid = U64FromFullTransactionId(seen->xids[i]);

		if (find_by_xid(scan, xid, xid + 1, position, clock))
			return true;
	}
	return find_by_xid(scan, snapshot_xmax(last), below, position, clock);
}

/* What lies behind (K, XID) in the order of shipping. */
static bool
find_behind(SegmentScan *scan, AppliedPosition *position, int64 *clock)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], K_INDEX_K, BTEqualStrategyNumber,
				F_PG_LSN_EQ, LSNGetDatum(position->k));
	ScanKeyInit(&keys[1], K_INDEX_XID, BTGreaterStrategyNumber,
				F_XID8GT, xid_datum(position->xid));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	if (find_unapplied(scan, K_INDEX_XID, K_INDEX_K, position, clock))
		return true;

	/* one key is left over: it says nothing new */
	ScanKeyInit(&keys[0], K_INDEX_K, BTGreaterStrategyNumber,
				F_PG_LSN_GT, LSNGetDatum(position->k));
	ScanKeyInit(&keys[1], K_INDEX_K, BTGreaterEqualStrategyNumber,
				F_PG_LSN_GE, LSNGetDatum(position->k));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	return find_unapplied(scan, K_INDEX_XID, K_INDEX_K, position, clock);
}

/* Whether every transaction of the segment is one that P sees by its xmin. */
static bool
is_past(SegmentScan *scan, AppliedPosition *position)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], XID_INDEX_XID, BTGreaterEqualStrategyNumber,
				F_XID8GE, xid_datum(snapshot_xmin(position->start)));
	ScanKeyInit(&keys[1], XID_INDEX_XID, BTLessStrategyNumber,
				F_XID8LT, xid_datum(PG_UINT64_MAX));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	return index_getnext_tid(scan->scan, ForwardScanDirection) == NULL;
}

static bool
find_in_segment(int segment, AppliedPosition *position, int64 *clock)
{
	SegmentScan scan;
	bool		past;
	bool		found;

	past = !courier_scan_open(&scan, segment, "xid_idx", 2) ||
		is_past(&scan, position);
	found = !past && find_unseen(&scan, position, clock);
	courier_scan_close(&scan);
	if (past || found || !position->inside)
		return found;

	found = courier_scan_open(&scan, segment, "k_idx", 2) &&
		find_behind(&scan, position, clock);
	courier_scan_close(&scan);
	return found;
}

/*
 * courier.unapplied_since(segment, position, target) → clock: of a change in
 * the segment (null: in any) that is visible now, that target (if not null)
 * sees too, and that a subscription at the position has not applied; null if
 * there is none.  It is one of the oldest.
 *
 * "Now" is when the function looks, whatever snapshot its caller has: the
 * caller may have waited for a lock since it took that.
 */
Datum
courier_unapplied_since(PG_FUNCTION_ARGS)
{
	AppliedPosition position = {0};
	int			first = 0;
	int			last = COURIER_SEGMENTS - 1;
	int64		clock = 0;
	bool		found = false;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("position must not be null")));
	if (!PG_ARGISNULL(0))
		first = last = PG_GETARG_INT32(0);
	if (first < 0 || last >= COURIER_SEGMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no segment %d of the queue", first)));
	parse_position(text_to_cstring(PG_GETARG_TEXT_PP(1)), &position);
	position.bounded = !PG_ARGISNULL(2);
	if (position.bounded)
		position.target = PointerGetDatum(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(2)));

	PushActiveSnapshot(GetLatestSnapshot());
	for (int segment = first; segment <= last; segment++)
	{
		int64		here;

		if (!find_in_segment(segment, &position, &here))
			continue;
		clock = found ? Min(clock, here) : here;
		found = true;
	}
	PopActiveSnapshot();

	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(clock);
}
