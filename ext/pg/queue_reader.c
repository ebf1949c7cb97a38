/*
 * queue_reader.c
 *	  Reads what lies in the queue between two positions; see queue_scan.h.
 *
 * A page begins with a byte, 1 if the interval ends with it, else 0, and with
 * up to where WAL is on disk: timeline int4, location int8.  Then come chunks,
 * numbers in network byte order:
 *	  k int8, xid int8, seq int4, changes int4, length int4, data
 */
#include "queue_scan.h"

#include "access/tableam.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/fmgroids.h"
#include "utils/pg_lsn.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(courier_read_queue);

static bool
in_interval(QueueInterval *interval, uint64 xid)
{
	return courier_sees(interval->end, xid) &&
		!courier_sees(interval->start, xid);
}

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
		uint64		xid = courier_scan_xid(scan, K_INDEX_XID);

		CHECK_FOR_INTERRUPTS();
		if (xid != judged)
		{
			/* neighbours are mostly of one transaction */
			wanted = xid == scan->xid || in_interval(interval, xid);
			judged = xid;
		}
		if (!wanted)
			continue;
		scan->k = DatumGetLSN(courier_scan_column(scan, K_INDEX_K));
		scan->seq = DatumGetInt32(courier_scan_column(scan, K_INDEX_SEQ));
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

/* Writes up to where our WAL is on disk: behind the commits of the page. */
static void
state_flushed(char *into)
{
	TimeLineID	timeline;
	XLogRecPtr	flushed = courier_flushed(&timeline);
	uint32		first = pg_hton32(timeline);
	uint64		second = pg_hton64(flushed);

	memcpy(into, &first, sizeof(first));
	memcpy(into + sizeof(first), &second, sizeof(second));
}

/*
 * The chunks of an interval behind a place, until there are so many chunks or
 * bytes.
 */
bytea *
courier_queue_page(QueueInterval *interval, ChunkPlace *place,
				   int32 most_chunks, int32 most_bytes)
{
	ScanKeyData rows[COURIER_SEGMENTS][K_INDEX_COLUMNS];
	SegmentScan scans[COURIER_SEGMENTS];
	SegmentScan *next;
	StringInfoData page;

	pq_begintypsend(&page);
	pq_sendbyte(&page, 0);
	pq_sendint32(&page, 0);
	pq_sendint64(&page, 0);
	for (int i = 0; i < COURIER_SEGMENTS; i++)
	{
		if (!courier_scan_open(&scans[i], i, "k_idx", 1))
			continue;
		start_behind(&scans[i], place, rows[i]);
		advance(&scans[i], interval);
	}
	for (int32 chunks = 0; chunks < most_chunks && page.len < most_bytes &&
		 (next = next_in_order(scans)) != NULL; chunks++)
	{
		courier_flush_transaction(next->xid);
		append_chunk(&page, next);
		advance(next, interval);
	}
	if (next_in_order(scans) == NULL)
		page.data[VARHDRSZ] = 1;
	state_flushed(page.data + VARHDRSZ + 1);
	for (int i = 0; i < COURIER_SEGMENTS; i++)
		courier_scan_close(&scans[i]);
	return pq_endtypsend(&page);
}

/*
 * courier.read_queue(start, end, k, xid, seq, chunks, bytes) → page: the
 * chunks of (start, end] behind (k, xid, seq).
 */
Datum
courier_read_queue(PG_FUNCTION_ARGS)
{
	QueueInterval interval = {PointerGetDatum(PG_GETARG_VARLENA_P(0)),
	PointerGetDatum(PG_GETARG_VARLENA_P(1))};
	ChunkPlace	place = {PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
	PG_GETARG_DATUM(4)};

	PG_RETURN_BYTEA_P(courier_queue_page(&interval, &place,
										 PG_GETARG_INT32(5),
										 PG_GETARG_INT32(6)));
}
