/*
 * capture_wait.c
 *	  Changes of rows whose making is yet to be captured.
 *
 * A command further out has made a row version, and its triggers fire when it
 * ends; what a BEFORE trigger or a function has changed in that row meanwhile
 * fires first.  Such a change is noted and waits; when the making fires, it
 * is captured with what the row has become.  A row that moves to another
 * partition is deleted there and inserted here; both wait.
 */
#include "pg_courier.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * A version whose making is yet to be captured, though what came after it
 * should have been already.
 */
typedef struct WaitingVersion
{
	CourierVersion version;		/* hash key */
	bool		changed;		/* it has been: to the next, or deleted */
	bool		has_next;
	CourierVersion	next;
	CommandId	maker;			/* of the first of a chain */
	Oid			file;			/* of the table */
	SubTransactionId noted_by;
	SubTransactionId changed_by;
	SubTransactionId linked_by; /* invalid for the first of a chain */
	uint64		serial;
} WaitingVersion;

/* How many versions wait for what a command has made. */
typedef struct Maker
{
	CommandId	command;		/* hash key */
	uint64		versions;
} Maker;

static HTAB *waiting = NULL;
static HTAB *makers = NULL;
static SubTransactionId last_noted = InvalidSubTransactionId;
static uint64 serials = 0;
static WaitingVersion *moving = NULL;	/* its INSERT fires next */
static CommandId moving_command = InvalidCommandId;

/* The row as it was, however dead. */
static bool
fetch_version(Relation rel, const CourierVersion *version, TupleTableSlot *slot)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, version->block, (OffsetNumber) version->offset);
	return table_tuple_fetch_row_version(rel, &tid, SnapshotAny, slot);
}

static WaitingVersion *
find_waiting(const CourierVersion *version)
{
	if (likely(waiting == NULL))
		return NULL;
	return hash_search(waiting, version, HASH_FIND, NULL);
}

static void
count_version(CommandId maker)
{
	bool		found;
	Maker	   *entry = hash_search(makers, &maker, HASH_ENTER, &found);

	entry->versions = found ? entry->versions + 1 : 1;
}

static void
discount_version(CommandId maker)
{
	Maker	   *entry = hash_search(makers, &maker, HASH_FIND, NULL);

	if (--entry->versions == 0)
		hash_search(makers, &maker, HASH_REMOVE, NULL);
}

static WaitingVersion *
note_waiting(Relation rel, const CourierVersion *version, CommandId maker)
{
	WaitingVersion *entry;
	bool		found;

	if (waiting == NULL)
	{
		waiting = courier_transaction_table("pg_courier waiting versions",
											sizeof(CourierVersion),
											sizeof(WaitingVersion));
		makers = courier_transaction_table("pg_courier makers of versions",
										   sizeof(CommandId), sizeof(Maker));
	}
	entry = hash_search(waiting, version, HASH_ENTER, &found);
	last_noted = GetCurrentSubTransactionId();
	if (found)
		return entry;
	entry->changed = entry->has_next = false;
	entry->maker = maker;
	entry->file = rel->rd_rel->relfilenode;
	entry->noted_by = last_noted;
	entry->linked_by = InvalidSubTransactionId;
	entry->serial = serials++;
	count_version(maker);
	return entry;
}

static void
forget_waiting(WaitingVersion *entry)
{
	if (moving == entry)
		moving = NULL;
	discount_version(entry->maker);
	hash_search(waiting, &entry->version, HASH_REMOVE, NULL);
}

/* A version has become this row, and waits for what the version waits for. */
static void
note_next(WaitingVersion *entry, Relation rel, TupleTableSlot *row)
{
	WaitingVersion *next;

	entry->has_next = true;
	entry->next = courier_row_version(rel, row);
	next = note_waiting(rel, &entry->next, entry->maker);
	next->linked_by = GetCurrentSubTransactionId();
	while (next != NULL && next->maker != entry->maker)
	{
		discount_version(next->maker);
		count_version(entry->maker);
		next->maker = entry->maker;
		next = next->has_next ? find_waiting(&next->next) : NULL;
	}
}

/*
 * Was this version made by a command that still writes, further out, or does it
 * come from one that was, so that its making is not captured yet?
 */
bool
courier_wait_needed(Relation rel, TupleTableSlot *slot)
{
	HeapTupleHeader header = courier_row_header(slot);

	if (likely(HeapTupleHeaderXminCommitted(header) &&
			   !HeapTupleHeaderXminFrozen(header)))
		return false;
	if (unlikely(waiting != NULL))
	{
		CourierVersion version = courier_row_version(rel, slot);
		WaitingVersion *entry = find_waiting(&version);

		if (entry != NULL)
			return courier_order_is_open(entry->maker);
	}
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmin(header)) &&
		courier_order_is_open(courier_row_made_by(header));
}

/* This change waits until the making of what it changed is captured. */
static void
wait_for_making(Relation rel, TupleTableSlot *old_row, TupleTableSlot *new_row,
				CommandId command)
{
	CourierVersion version = courier_row_version(rel, old_row);
	WaitingVersion *entry = note_waiting(rel, &version,
										 courier_row_made_by(courier_row_header(old_row)));

	entry->changed = true;
	entry->changed_by = GetCurrentSubTransactionId();
	if (new_row != NULL)
		note_next(entry, rel, new_row);
	else if (HeapTupleHeaderIndicatesMovedPartitions(courier_row_header(old_row)))
	{
		moving = entry;
		moving_command = command;
	}
}

/* Is this insert the other half of a row's way to another partition? */
static bool
arrives(Relation rel, TupleTableSlot *new_row, CommandId command)
{
	if (likely(moving == NULL) || command != moving_command)
		return false;
	note_next(moving, rel, new_row);
	moving = NULL;
	return true;
}

/*
 * Follows a version to what it has become, and forgets the way; false if it was
 * deleted.
 */
static bool
take_latest(CourierVersion *version)
{
	WaitingVersion *entry;

	while ((entry = find_waiting(version)) != NULL)
	{
		WaitingVersion step = *entry;

		forget_waiting(entry);
		if (step.changed && !step.has_next)
			return false;
		if (!step.changed)
			break;
		*version = step.next;
	}
	return true;
}

/* Captures a change as one to what the row has become since. */
static void
capture_latest(Relation rel, TupleTableSlot *old_row, CourierVersion version)
{
	Relation	other = rel;
	TupleTableSlot *slot = NULL;

	if (take_latest(&version))
	{
		if (version.relid != RelationGetRelid(rel))
			other = table_open(version.relid, NoLock);
		slot = table_slot_create(other, NULL);
		if (!fetch_version(other, &version, slot))
			elog(ERROR, "row version (%u,%u) of table \"%s\" is gone",
				 version.block, version.offset, RelationGetRelationName(other));
	}
	if (slot != NULL && other == rel)
		courier_capture_change(rel, old_row, slot);
	else
	{
		if (old_row != NULL)
			courier_capture_change(rel, old_row, NULL);
		if (slot != NULL)
			courier_capture_change(other, NULL, slot);
	}
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
	if (other != rel)
		table_close(other, NoLock);
}

/*
 * Does this change, which "command" has made, wait for another, or do others
 * wait for it?  Then they are seen to, and there is nothing to be captured.
 */
bool
courier_wait_take(Relation rel, TupleTableSlot *old_row,
				  TupleTableSlot *new_row, CommandId command)
{
	CourierVersion version;

	if (new_row == NULL)
		moving = NULL;			/* it did not arrive, or not as captured */
	if (old_row != NULL && courier_wait_needed(rel, old_row))
	{
		wait_for_making(rel, old_row, new_row, command);
		return true;
	}
	if (likely(waiting == NULL) || new_row == NULL)
		return false;
	if (old_row == NULL && arrives(rel, new_row, command))
		return true;
	version = courier_row_version(rel, new_row);
	if (find_waiting(&version) == NULL)
		return false;
	capture_latest(rel, old_row, version);
	return true;
}

/* ---- what waits in vain ---- */

static int
compare_serials(const void *a, const void *b)
{
	uint64		serial = ((const WaitingVersion *) a)->serial;
	uint64		other = ((const WaitingVersion *) b)->serial;

	return serial < other ? -1 : serial > other;
}

/* The making of this version was not captured: what became of it is. */
static void
capture_rest(const WaitingVersion *entry)
{
	Relation	rel = try_relation_open(entry->version.relid, NoLock);
	TupleTableSlot *slot;

	if (rel == NULL)
		return;					/* the table was dropped */
	if (rel->rd_rel->relfilenode != entry->file)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" was rewritten before changes of its rows were captured",
						RelationGetRelationName(rel)),
				 errhint("Send the commands one by one, or preload pg_courier.")));
	slot = table_slot_create(rel, NULL);
	if (fetch_version(rel, &entry->version, slot))
		capture_latest(rel, slot, entry->version);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, NoLock);
}

/*
 * All triggers of this command, or (InvalidCommandId) of all, have fired: captures
 * changes that still wait for its own.
 */
void
courier_wait_settle(CommandId command)
{
	HASH_SEQ_STATUS scan;
	WaitingVersion *entry;
	WaitingVersion *entries;
	bool		pushed = false;
	int			count = 0;

	if (likely(waiting == NULL) || hash_get_num_entries(waiting) == 0)
		return;
	if (command != InvalidCommandId &&
		hash_search(makers, &command, HASH_FIND, NULL) == NULL)
		return;
	entries = MemoryContextAllocHuge(CurrentMemoryContext,
									 hash_get_num_entries(waiting) * sizeof(WaitingVersion));
	hash_seq_init(&scan, waiting);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entries[count++] = *entry;
	qsort(entries, count, sizeof(WaitingVersion), compare_serials);
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	courier_order_now();
	for (int i = 0; i < count; i++)
		if (entries[i].changed && entries[i].linked_by == InvalidSubTransactionId &&
			(command == InvalidCommandId || entries[i].maker == command) &&
			find_waiting(&entries[i].version) != NULL)
			capture_rest(&entries[i]);
	if (pushed)
		PopActiveSnapshot();
	pfree(entries);
}

void
courier_wait_abort_subtransaction(SubTransactionId mine)
{
	HASH_SEQ_STATUS scan;
	WaitingVersion *entry;

	/* numbers rise: what began since belongs to it */
	if (likely(waiting == NULL) || last_noted < mine)
		return;
	moving = NULL;
	hash_seq_init(&scan, waiting);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->noted_by >= mine)
			forget_waiting(entry);
		else
		{
			if (entry->changed && entry->changed_by >= mine)
				entry->changed = entry->has_next = false;
			if (entry->linked_by >= mine)
				entry->linked_by = InvalidSubTransactionId;
		}
	}
}

/* The memory goes with the transaction. */
void
courier_wait_reset(void)
{
	waiting = makers = NULL;
	moving = NULL;
	serials = 0;
}
