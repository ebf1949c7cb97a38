/*
 * capture_key.c
 *	  Keys that one command leaves and another, inside it, takes.
 *
 * While a command writes, a function or a BEFORE trigger that it calls may insert
 * a row with the key of one that the command has deleted, or given another key.
 * That row's change is captured later, and the node would find the key taken.
 * So the old row is captured as deleted ahead of the one that takes its key; when
 * its own change fires, only the new row, if any, is left to be captured.
 */
#include "pg_courier.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A row version that was captured as deleted ahead of its own change. */
typedef struct LeftVersion
{
	CourierVersion version;		/* hash key */
	SubTransactionId noted_by;
} LeftVersion;

static HTAB *left = NULL;

static void
note_left(const CourierVersion *version)
{
	LeftVersion *entry;

	if (left == NULL)
		left = courier_transaction_table("pg_courier left keys",
										 sizeof(CourierVersion),
										 sizeof(LeftVersion));
	entry = hash_search(left, version, HASH_ENTER, NULL);
	entry->noted_by = GetCurrentSubTransactionId();
}

/* Was the row that this change is of captured as deleted already? */
bool
courier_key_has_left(Relation rel, TupleTableSlot *old_row)
{
	CourierVersion version;
	bool		found;

	if (likely(left == NULL) || old_row == NULL)
		return false;
	version = courier_row_version(rel, old_row);
	hash_search(left, &version, HASH_REMOVE, &found);
	return found;
}

/* Are this index's columns the key, as far as it can be searched for one? */
static bool
is_of_key(Relation index, const CourierRelation *relation)
{
	Form_pg_index form = index->rd_index;
	int			columns = 0;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < relation->ncolumns; i++)
	{
		bool		found = false;

		if (!relation->columns[i].key)
			continue;
		columns++;
		for (int k = 0; k < form->indnkeyatts; k++)
			found |= form->indkey.values[k] == relation->columns[i].attnum;
		if (!found)
			return false;
	}
	return columns == form->indnkeyatts;
}

static Relation
open_key_index(Relation rel, const CourierRelation *relation)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (is_of_key(index, relation))
			return index;
		index_close(index, AccessShareLock);
	}
	return NULL;
}

static void
make_scan_keys(Relation index, TupleTableSlot *row, ScanKey keys)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];
		Oid			type = index->rd_opcintype[i];
		Oid			equals = get_opfamily_member(index->rd_opfamily[i], type,
												 type, BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber,
							   InvalidOid, index->rd_indcollation[i],
							   get_opcode(equals), row->tts_values[attnum - 1]);
	}
}

/* Has a command that still writes changed this version, or deleted it? */
static bool
was_changed_further_out(TupleTableSlot *slot)
{
	HeapTupleHeader row = courier_row_header(slot);

	return (row->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		!HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(row)) &&
		courier_order_is_open(courier_row_changed_by(row));
}

/*
 * This row has got a key: captures a row as deleted that has left it, if a
 * command further out did that.
 */
void
courier_key_take(Relation rel, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	CourierRelation *relation;
	Relation	index;
	IndexScanDesc scan;
	ScanKeyData keys[INDEX_MAX_KEYS];
	TupleTableSlot *slot;

	/* the common case: nothing further out writes, or not to this table */
	if (likely(!courier_order_writes_further_out()) || rel->rd_refcnt <= 1)
		return;
	relation = courier_relation_lookup(rel);
	slot_getallattrs(new_row);
	if (!relation->has_key)
		return;
	if (old_row != NULL)
	{
		slot_getallattrs(old_row);
		if (!courier_key_changed(relation,
								 old_row->tts_values, old_row->tts_isnull,
								 new_row->tts_values, new_row->tts_isnull))
			return;
	}
	index = open_key_index(rel, relation);
	if (index == NULL)
		return;
	make_scan_keys(index, new_row, keys);
	slot = table_slot_create(rel, NULL);
	scan = courier_index_beginscan(rel, index, SnapshotAny,
								   index->rd_index->indnkeyatts);
	index_rescan(scan, keys, index->rd_index->indnkeyatts, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CourierVersion version = courier_row_version(rel, slot);

		if (!was_changed_further_out(slot) || courier_wait_needed(rel, slot) ||
			(left != NULL && hash_search(left, &version, HASH_FIND, NULL) != NULL))
			continue;
		courier_capture_change(rel, slot, NULL);
		note_left(&version);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
}

void
courier_key_abort_subtransaction(SubTransactionId mine)
{
	HASH_SEQ_STATUS scan;
	LeftVersion *entry;

	if (likely(left == NULL))
		return;
	hash_seq_init(&scan, left);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->noted_by >= mine)
			hash_search(left, &entry->version, HASH_REMOVE, NULL);
}

/* The memory goes with the transaction. */
void
courier_key_reset(void)
{
	left = NULL;
}
