/*
 * queue_reader.c
 *	  Finds and reads what lies in the queue between two positions.
 *
 * The interval (P, S] is every row that snapshot S sees and snapshot P did
 * not.  It is found by transaction id through the indexes on (xid, k), and
 * read in the order of (k, xid, seq) by merging the segments' other indexes.
 * The scans are made here rather than by SQL: a segment has no statistics,
 * and one plan that reads it whole, or sorts it, would be one too many.
 *
 * What is found has been committed, but perhaps not yet on disk: its commit
 * is flushed before it is handed out (see durability.c).
 *
 * A page begins with a byte, 1 if the interval ends with it, else 0.  Then
 * come chunks, numbers in network byte order:
 *	  k int8, xid int8, seq int4, changes int4, length int4, data
 */
#include "pg_courier.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(courier_look);
PG_FUNCTION_INFO_V1(courier_read_queue);

/* Columns of the index on (k, xid, seq). */
enum
{
	K_INDEX_K = 1,
	K_INDEX_XID,
	K_INDEX_SEQ,
	K_INDEX_COLUMNS = K_INDEX_SEQ
};

/* Columns of the index on (xid, k). */
enum
{
	XID_INDEX_XID = 1,
	XID_INDEX_K
};

/* The two ends of an interval. */
typedef struct QueueInterval
{
	Datum		start;
	Datum		end;
} QueueInterval;

/* A scan of one segment through one of its indexes. */
typedef struct SegmentScan
{
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;

	/* the entry it stands at; in a merge */
	bool		valid;
	uint64		k;
	uint64		xid;
	int32		seq;
} SegmentScan;

static bool
sees(Datum snapshot, uint64 xid)
{
	return DatumGetBool(DirectFunctionCall2(pg_visible_in_snapshot,
											FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)),
											snapshot));
}

static bool
in_interval(QueueInterval *interval, uint64 xid)
{
	return sees(interval->end, xid) && !sees(interval->start, xid);
}

static void
open_scan(SegmentScan *scan, int segment, const char *suffix, int nkeys)
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
	scan->index = index_open(index, AccessShareLock);
	scan->slot = table_slot_create(scan->heap, NULL);
	scan->scan = courier_index_beginscan(scan->heap, scan->index,
										 GetActiveSnapshot(), nkeys);
	scan->scan->xs_want_itup = true;
}

static void
close_scan(SegmentScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->heap, AccessShareLock);
}

static Datum
index_column(SegmentScan *scan, int column)
{
	bool		isnull;

	return index_getattr(scan->scan->xs_itup, column,
						 scan->scan->xs_itupdesc, &isnull);
}

static uint64
index_xid(SegmentScan *scan, int column)
{
	return U64FromFullTransactionId(DatumGetFullTransactionId(index_column(scan, column)));
}

/* ---- courier.look ---- */

/* What has been found of an interval. */
typedef struct Extent
{
	bool		found;
	uint64		first_k;
	uint64		last_xid;
} Extent;

/* Looks at the transactions that a scan of a (xid, k) index finds. */
static void
look_through(SegmentScan *scan, Datum end, Extent *extent)
{
	uint64		counted = 0;	/* the transaction looked at last */

	while (index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		uint64		xid = index_xid(scan, XID_INDEX_XID);
		uint64		k;

		CHECK_FOR_INTERRUPTS();
		if (xid == counted || !sees(end, xid) ||
			!index_fetch_heap(scan->scan, scan->slot))
			continue;
		counted = xid;
		k = DatumGetLSN(index_column(scan, XID_INDEX_K));
		if (!extent->found || k < extent->first_k)
			extent->first_k = k;
		extent->last_xid = Max(extent->last_xid, xid);
		extent->found = true;
	}
}

/* Looks at the transactions from an id on, up to but not including another. */
static void
look_between(SegmentScan *scan, Datum from, Datum to, Datum end,
			 Extent *extent)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], XID_INDEX_XID, BTGreaterEqualStrategyNumber,
				F_XID8GE, from);
	ScanKeyInit(&keys[1], XID_INDEX_XID, BTLessStrategyNumber,
				F_XID8LT, to);
	index_rescan(scan->scan, keys, 2, NULL, 0);
	look_through(scan, end, extent);
}

/*
 * courier.look(p, s, waiting) → (first_k, last_xid): the lowest k and the
 * highest transaction id of (p, s], NULL if it is empty.  waiting are the
 * transactions that p saw in progress.
 */
Datum
courier_look(PG_FUNCTION_ARGS)
{
	Datum		start = PG_GETARG_DATUM(0);
	Datum		end = PG_GETARG_DATUM(1);
	ArrayType  *waiting = PG_GETARG_ARRAYTYPE_P(2);
	Datum		since = DirectFunctionCall1(pg_snapshot_xmax, start);
	Datum		until = DirectFunctionCall1(pg_snapshot_xmax, end);
	Extent		extent = {0};
	Datum	   *xids;
	int			nxids;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	deconstruct_array(waiting, XID8OID, sizeof(FullTransactionId),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &xids, NULL, &nxids);

	for (int segment = 0; segment < COURIER_SEGMENTS; segment++)
	{
		SegmentScan scan;

		open_scan(&scan, segment, "xid_idx", 2);
		look_between(&scan, since, until, end, &extent);
		for (int i = 0; i < nxids; i++)
		{
			FullTransactionId next = DatumGetFullTransactionId(xids[i]);

			FullTransactionIdAdvance(&next);
			look_between(&scan, xids[i], FullTransactionIdGetDatum(next),
						 end, &extent);
		}
		close_scan(&scan);
	}

	if (extent.found)
		courier_flush_transaction(extent.last_xid);
	nulls[0] = nulls[1] = !extent.found;
	values[0] = LSNGetDatum(extent.first_k);
	values[1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(extent.last_xid));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* ---- courier.read_queue ---- */

/* Where a page begins: behind this chunk. */
typedef struct ChunkPlace
{
	Datum		k;
	Datum		xid;
	Datum		seq;
} ChunkPlace;

/* Begins a scan of a (k, xid, seq) index behind a place, as a row comparison. */
static void
start_behind(SegmentScan *scan, ChunkPlace *place, ScanKey row)
{
	ScanKeyData header;

	ScanKeyEntryInitialize(&row[0], SK_ROW_MEMBER, K_INDEX_K,
						   BTGreaterStrategyNumber, InvalidOid, InvalidOid,
						   F_PG_LSN_CMP, place->k);
	ScanKeyEntryInitialize(&row[1], SK_ROW_MEMBER, K_INDEX_XID,
						   BTGreaterStrategyNumber, InvalidOid, InvalidOid,
						   F_XID8CMP, place->xid);
	ScanKeyEntryInitialize(&row[2], SK_ROW_MEMBER | SK_ROW_END, K_INDEX_SEQ,
						   BTGreaterStrategyNumber, InvalidOid, InvalidOid,
						   F_BTINT4CMP, place->seq);
	MemSet(&header, 0, sizeof(header));
	header.sk_flags = SK_ROW_HEADER;
	header.sk_attno = K_INDEX_K;
	header.sk_strategy = BTGreaterStrategyNumber;
	header.sk_argument = PointerGetDatum(row);
	index_rescan(scan->scan, &header, 1, NULL, 0);
}

/* Moves to the segment's next chunk of the interval. */
static void
advance(SegmentScan *scan, QueueInterval *interval)
{
	uint64		judged = 0;
	bool		wanted = false;

	while (index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		uint64		xid = index_xid(scan, K_INDEX_XID);

		CHECK_FOR_INTERRUPTS();
		if (xid != judged)
		{
			/* neighbours are mostly of one transaction */
			wanted = xid == scan->xid || in_interval(interval, xid);
			judged = xid;
		}
		if (!wanted)
			continue;
		scan->k = DatumGetLSN(index_column(scan, K_INDEX_K));
		scan->seq = DatumGetInt32(index_column(scan, K_INDEX_SEQ));
		if (!index_fetch_heap(scan->scan, scan->slot))
			continue;
		scan->xid = xid;
		scan->valid = true;
		return;
	}
	scan->valid = false;
}

static bool
comes_before(SegmentScan *a, SegmentScan *b)
{
	if (a->k != b->k)
		return a->k < b->k;
	if (a->xid != b->xid)
		return a->xid < b->xid;
	return a->seq < b->seq;
}

/* The scan that stands at the next chunk of all, or NULL at the end. */
static SegmentScan *
next_in_order(SegmentScan *scans)
{
	SegmentScan *first = NULL;

	for (int i = 0; i < COURIER_SEGMENTS; i++)
	{
		if (scans[i].valid &&
			(first == NULL || comes_before(&scans[i], first)))
			first = &scans[i];
	}
	return first;
}

/* Appends the chunk that a scan stands at to a page. */
static void
append_chunk(StringInfo page, SegmentScan *scan)
{
	bool		isnull;
	Datum		changes = slot_getattr(scan->slot, QUEUE_CHANGES, &isnull);
	Datum		value = slot_getattr(scan->slot, QUEUE_DATA, &isnull);
	bytea	   *data = DatumGetByteaPP(value);
	int			length = VARSIZE_ANY_EXHDR(data);

	pq_sendint64(page, scan->k);
	pq_sendint64(page, scan->xid);
	pq_sendint32(page, scan->seq);
	pq_sendint32(page, DatumGetInt32(changes));
	pq_sendint32(page, length);
	appendBinaryStringInfoNT(page, VARDATA_ANY(data), length);
	if ((Pointer) data != DatumGetPointer(value))
		pfree(data);
}

/*
 * courier.read_queue(start, end, k, xid, seq, chunks, bytes) → page: the
 * chunks of (start, end] behind (k, xid, seq), until there are so many chunks
 * or bytes.
 */
Datum
courier_read_queue(PG_FUNCTION_ARGS)
{
	QueueInterval interval = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	ChunkPlace	place = {PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
	PG_GETARG_DATUM(4)};
	int32		most_chunks = PG_GETARG_INT32(5);
	int32		most_bytes = PG_GETARG_INT32(6);
	ScanKeyData rows[COURIER_SEGMENTS][K_INDEX_COLUMNS];
	SegmentScan scans[COURIER_SEGMENTS];
	SegmentScan *next;
	StringInfoData page;

	pq_begintypsend(&page);
	pq_sendbyte(&page, 0);
	for (int i = 0; i < COURIER_SEGMENTS; i++)
	{
		open_scan(&scans[i], i, "k_idx", 1);
		start_behind(&scans[i], &place, rows[i]);
		advance(&scans[i], &interval);
	}
	for (int32 chunks = 0; chunks < most_chunks && page.len < most_bytes &&
		 (next = next_in_order(scans)) != NULL; chunks++)
	{
		courier_flush_transaction(next->xid);
		append_chunk(&page, next);
		advance(next, &interval);
	}
	if (next_in_order(scans) == NULL)
		page.data[VARHDRSZ] = 1;
	for (int i = 0; i < COURIER_SEGMENTS; i++)
		close_scan(&scans[i]);
	PG_RETURN_BYTEA_P(pq_endtypsend(&page));
}
