/*
 * queue_hold.c
 *	  Whether the queue keeps what a subscription has not applied.
 *
 * A subscription that is detached, because the queue was full, or needs a
 * resync for another reason holds nothing any more: what a shipper reads for
 * it may have gaps.  A shipper asks after each read, so after the segments
 * were open: if one was emptied before, then the mark that allowed it is
 * committed, and seen here.
 */
#include "pg_courier.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(courier_still_holds);

/* Column number of courier.subscription_state.subscription_id. */
#define STATE_SUBSCRIPTION_ID 1

/* Whether a row of courier.subscription_state says that nothing is lost. */
static bool
row_holds(Relation table, HeapTuple tuple)
{
	Oid			relid = RelationGetRelid(table);
	TupleDesc	desc = RelationGetDescr(table);
	bool		isnull;
	Datum		state;

	heap_getattr(tuple, get_attnum(relid, "detached_at"), desc, &isnull);
	if (!isnull)
		return false;
	state = heap_getattr(tuple, get_attnum(relid, "state"), desc, &isnull);
	return isnull ||
		strcmp(TextDatumGetCString(state), "needs_resync") != 0;
}

/*
 * courier.still_holds(subscription_id): by what is committed now, whatever
 * snapshot the caller has.
 */
Datum
courier_still_holds(PG_FUNCTION_ARGS)
{
	Oid			schema = get_namespace_oid(COURIER_SCHEMA, false);
	Oid			relid = get_relname_relid("subscription_state", schema);
	Oid			index = get_relname_relid("subscription_state_pkey", schema);
	Relation	table;
	Relation	index_relation;
	Snapshot	snapshot;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		holds;

	if (!OidIsValid(relid) || !OidIsValid(index))
		courier_queue_missing();
	table = table_open(relid, AccessShareLock);
	index_relation = index_open(index, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&key, STATE_SUBSCRIPTION_ID, BTEqualStrategyNumber, F_INT4EQ,
				PG_GETARG_DATUM(0));

	/*
	 * Backward, since entries of one key are in the order of their place: the
	 * row is where the table ends, behind its former versions, of which there
	 * are many while an old snapshot keeps vacuum from them.
	 */
	scan = systable_beginscan_ordered(table, index_relation, snapshot, 1,
									  &key);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	holds = HeapTupleIsValid(tuple) && row_holds(table, tuple);
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index_relation, AccessShareLock);
	table_close(table, AccessShareLock);
	PG_RETURN_BOOL(holds);
}
