/*
 * queue_scan.c
 *	  Positions, and scans of the queue's segments; see queue_scan.h.
 */
#include "queue_scan.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "storage/bufmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

bool
courier_sees(Datum snapshot, uint64 xid)
{
	return DatumGetBool(DirectFunctionCall2(pg_visible_in_snapshot,
											FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)),
											snapshot));
}

/*
 * The active snapshot as a position: what this transaction itself captures
 * will be queued when it commits, so it counts as in progress.  The same as
 * courier.position().
 */
Datum
courier_position_now(void)
{
	Datum		now = DirectFunctionCall1(pg_current_snapshot, (Datum) 0);
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	CourierPosition *seen = (CourierPosition *) DatumGetPointer(now);
	CourierPosition *position;
	uint32		before = 0;
	Size		size;

	if (!FullTransactionIdIsValid(own) ||
		!FullTransactionIdPrecedes(own, seen->xmax))
		return now;
	while (before < seen->running &&
		   FullTransactionIdPrecedes(seen->xids[before], own))
		before++;
	if (before < seen->running &&
		FullTransactionIdEquals(seen->xids[before], own))
		return now;

	size = offsetof(CourierPosition, xids) +
		(seen->running + 1) * sizeof(FullTransactionId);
	position = palloc(size);
	memcpy(position, seen, offsetof(CourierPosition, xids));
	SET_VARSIZE(position, size);
	position->running = seen->running + 1;
	if (FullTransactionIdPrecedes(own, position->xmin))
		position->xmin = own;
	memcpy(position->xids, seen->xids, before * sizeof(FullTransactionId));
	position->xids[before] = own;
	memcpy(position->xids + before + 1, seen->xids + before,
		   (seen->running - before) * sizeof(FullTransactionId));
	return PointerGetDatum(position);
}

/*
 * Begins a scan of one of a segment's indexes.  Returns false if the segment
 * is empty, as one or two of the three mostly are: there is nothing to scan
 * then, and what is committed from now on the active snapshot does not see.
 */
bool
courier_scan_open(SegmentScan *scan, int segment, const char *suffix,
				  int nkeys)
{
	Oid			schema = get_namespace_oid(COURIER_SCHEMA, false);
	char		name[NAMEDATALEN];
	Oid			heap;
	Oid			index;

	snprintf(name, sizeof(name), "queue_%d", segment);
	heap = get_relname_relid(name, schema);
	snprintf(name, sizeof(name), "queue_%d_%s", segment, suffix);
	index = get_relname_relid(name, schema);
	if (!OidIsValid(heap) || !OidIsValid(index))
		courier_queue_missing();

	memset(scan, 0, sizeof(SegmentScan));
	scan->heap = table_open(heap, AccessShareLock);
	if (RelationGetNumberOfBlocks(scan->heap) == 0)
		return false;
	scan->index = index_open(index, AccessShareLock);
	scan->slot = table_slot_create(scan->heap, NULL);
	scan->scan = courier_index_beginscan(scan->heap, scan->index,
										 GetActiveSnapshot(), nkeys);
	scan->scan->xs_want_itup = true;
	return true;
}

void
courier_scan_close(SegmentScan *scan)
{
	if (scan->scan != NULL)
	{
		index_endscan(scan->scan);
		ExecDropSingleTupleTableSlot(scan->slot);
		index_close(scan->index, AccessShareLock);
	}
	table_close(scan->heap, AccessShareLock);
}

/* A column of the index entry that a scan stands at. */
Datum
courier_scan_column(SegmentScan *scan, int column)
{
	bool		isnull;

	return index_getattr(scan->scan->xs_itup, column,
						 scan->scan->xs_itupdesc, &isnull);
}

uint64
courier_scan_xid(SegmentScan *scan, int column)
{
	return U64FromFullTransactionId(DatumGetFullTransactionId(courier_scan_column(scan, column)));
}

/* The generation of the configuration that the active snapshot sees. */
int64
courier_generation(void)
{
	Oid			table = get_relname_relid("configuration",
										  get_namespace_oid(COURIER_SCHEMA, false));
	int64		generation = 0;
	Relation	configuration;
	TableScanDesc scan;
	TupleTableSlot *slot;
	bool		isnull;

	if (!OidIsValid(table))
		courier_queue_missing();
	configuration = table_open(table, AccessShareLock);
	slot = table_slot_create(configuration, NULL);
	scan = table_beginscan(configuration, GetActiveSnapshot(), 0, NULL);
	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		generation = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(configuration, AccessShareLock);
	return generation;
}
