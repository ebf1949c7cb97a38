/*
 * queue_segment.c
 *	  The segment of the queue that is written to, and whether there is room.
 *
 * courier.queue_current says which segment it is.  Every backend remembers
 * the row until a relcache invalidation of that table, which a trigger on it
 * sends, says that it has changed.  A writer that missed it writes into the
 * former segment: that does no harm, since readers look into all of them, and
 * one is emptied only when nobody writes and everything in it is consumed.
 *
 * With courier.queue_max_size and policy "block" a transaction that would
 * grow the queue beyond the limit fails.  What the other segments take is in
 * courier.queue_current; the size of the one being written is asked of the
 * file system now and then, so most commits pay an addition.
 */
#include "pg_courier.h"

#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(courier_segment_changed);
PG_FUNCTION_INFO_V1(courier_queue_limits);
PG_FUNCTION_INFO_V1(courier_in_transaction_block);

/* Columns of courier.queue_current that are read here. */
enum
{
	CURRENT_SEGMENT = 1,
	CURRENT_HELD_BYTES
};

/* After so much time, or so many bytes of its own, a backend measures again. */
#define MEASURE_INTERVAL (INT64CONST(50) * 1000)	/* microseconds */
#define MEASURE_BYTES (512 * 1024)

/* What courier.queue_current says. */
static struct
{
	bool		valid;
	Oid			table;
	Oid			segment;
	int64		held_bytes;		/* of the other segments */
	uint64		invalidations;	/* how often that was told */
}			current;

/* The size of the segment as far as this backend knows. */
static struct
{
	Oid			segment;
	TimestampTz at;
	int64		bytes;
	int64		added;			/* written by this backend since */
}			measured;

static void
segment_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == current.table)
	{
		current.valid = false;
		current.invalidations++;
	}
}

void
courier_queue_segment_init(void)
{
	CacheRegisterRelcacheCallback(segment_callback, (Datum) 0);
}

static void
read_current(void)
{
	Oid			schema = get_namespace_oid(COURIER_SCHEMA, false);
	char		name[NAMEDATALEN];
	Relation	table;
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	bool		found;
	bool		isnull;
	uint64		invalidations;

	current.table = get_relname_relid("queue_current", schema);
	if (!OidIsValid(current.table))
		courier_queue_missing();
	table = table_open(current.table, AccessShareLock);

	/*
	 * From here on an invalidation counts; the snapshot sees all before.  An
	 * error (a cancel may come in the middle) leaves what is known invalid.
	 */
	invalidations = current.invalidations;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(table, NULL);
	scan = table_beginscan(table, snapshot, 0, NULL);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	if (found)
	{
		snprintf(name, sizeof(name), "queue_%d",
				 DatumGetInt32(slot_getattr(slot, CURRENT_SEGMENT, &isnull)));
		current.held_bytes =
			DatumGetInt64(slot_getattr(slot, CURRENT_HELD_BYTES, &isnull));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);

	current.segment = found ? get_relname_relid(name, schema) : InvalidOid;
	if (!OidIsValid(current.segment))
		courier_queue_missing();
	current.valid = invalidations == current.invalidations;
}

/* The segment that transactions write to now. */
Oid
courier_current_segment(void)
{
	if (unlikely(!current.valid))
		read_current();
	return current.segment;
}

/* ---- room ---- */

static void
measure(Relation segment, Relation *indexes, int nindexes, TimestampTz now)
{
	int64		blocks = RelationGetNumberOfBlocks(segment);

	for (int i = 0; i < nindexes; i++)
		blocks += RelationGetNumberOfBlocks(indexes[i]);
	measured.segment = RelationGetRelid(segment);
	measured.at = now;
	measured.bytes = blocks * BLCKSZ;
	measured.added = 0;
}

static int64
queue_bytes(void)
{
	return current.held_bytes + measured.bytes + measured.added;
}

/*
 * Says why the queue is full.  The words come from SQL, which knows who holds
 * it up; they must survive SPI.
 */
static void
report_full(int64 bytes)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *who = NULL;
	char	   *hint = NULL;

	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	if (SPI_execute("SELECT who, hint FROM courier.queue_full_reason()",
					true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		HeapTuple	tuple = SPI_tuptable->vals[0];
		char	   *text;

		if ((text = SPI_getvalue(tuple, desc, 1)) != NULL)
			who = MemoryContextStrdup(context, text);
		if ((text = SPI_getvalue(tuple, desc, 2)) != NULL)
			hint = MemoryContextStrdup(context, text);
	}
	SPI_finish();
	PopActiveSnapshot();

	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the queue of pg_courier is full"),
			 errdetail("It takes " INT64_FORMAT " MB, courier.queue_max_size is %d MB; %s.",
					   (bytes + 1024 * 1024 - 1) / (1024 * 1024),
					   courier_queue_max_size,
					   who == NULL ? "nobody is known to hold it" : who),
			 errhint("%s", hint == NULL ? "See courier.queue_status." : hint)));
}

/*
 * Raises an error if the queue has reached its limit.  The writer calls it
 * before it begins, with the time, and for every chunk, with its size.
 */
void
courier_require_room(Relation segment, Relation *indexes, int nindexes,
					 TimestampTz now, Size added)
{
	int64		limit = (int64) courier_queue_max_size * 1024 * 1024;

	if (courier_queue_full_policy != COURIER_FULL_BLOCK)
		return;
	measured.added += added;
	if (measured.segment != RelationGetRelid(segment) ||
		measured.added > MEASURE_BYTES ||
		(now != 0 && (now > measured.at + MEASURE_INTERVAL ||
					  now < measured.at)))
		measure(segment, indexes, nindexes, now == 0 ? measured.at : now);
	if (likely(queue_bytes() < limit))
		return;

	/* It may have been emptied, or writers moved on, since that was read. */
	current.valid = false;
	if (courier_current_segment() != RelationGetRelid(segment))
		return;
	measure(segment, indexes, nindexes, measured.at);
	if (queue_bytes() >= limit)
		report_full(queue_bytes());
}

/* ---- for SQL ---- */

/* Statement trigger of courier.queue_current: tells all backends. */
Datum
courier_segment_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("courier.segment_changed() was not called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

/*
 * courier.queue_limits() → (segment_bytes, segment_age, max_bytes, detach).
 * current_setting() knows the settings only once this library is loaded.
 */
Datum
courier_queue_limits(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	values[0] = Int64GetDatum((int64) courier_segment_size * 1024);
	values[1] = Int32GetDatum(courier_segment_age);
	values[2] = Int64GetDatum((int64) courier_queue_max_size * 1024 * 1024);
	values[3] = BoolGetDatum(courier_queue_full_policy == COURIER_FULL_DETACH);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* courier.in_transaction_block(): does the caller's transaction go on? */
Datum
courier_in_transaction_block(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(IsTransactionBlock());
}
