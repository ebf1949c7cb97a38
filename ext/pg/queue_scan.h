/*
 * queue_scan.h
 *	  What the files that read the queue share.
 *
 * The interval (P, S] is every row that snapshot S sees and snapshot P did
 * not.  queue_look.c finds it by transaction id through the indexes on (xid,
 * k), queue_reader.c reads it in the order of (k, xid, seq) by merging the
 * segments' other indexes.  The scans are made here rather than by SQL: a
 * segment has no statistics, and one plan that reads it whole, or sorts it,
 * would be one too many.
 *
 * What is found has been committed, but perhaps not yet on disk: its commit
 * is flushed before it is handed out (see durability.c).
 */
#ifndef COURIER_QUEUE_SCAN_H
#define COURIER_QUEUE_SCAN_H

#include "pg_courier.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"

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

/* A pg_snapshot as it is on disk; PostgreSQL keeps the type in a C file. */
typedef struct CourierPosition
{
	int32		vl_len_;
	uint32		running;		/* number of xids */
	FullTransactionId xmin;
	FullTransactionId xmax;
	FullTransactionId xids[FLEXIBLE_ARRAY_MEMBER];	/* ascending */
} CourierPosition;

/* The two ends of an interval, pg_snapshots that are not toasted. */
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

/* What has been found of an interval. */
typedef struct QueueExtent
{
	bool		found;
	uint64		first_k;		/* or a lower one */
	uint64		last_xid;
} QueueExtent;

/* Where a page begins: behind this chunk. */
typedef struct ChunkPlace
{
	Datum		k;
	Datum		xid;
	Datum		seq;
} ChunkPlace;

/* ---- queue_scan.c ---- */
extern bool courier_sees(Datum snapshot, uint64 xid);
extern Datum courier_position_now(void);
extern bool courier_scan_open(SegmentScan *scan, int segment,
							  const char *suffix, int nkeys);
extern void courier_scan_close(SegmentScan *scan);
extern Datum courier_scan_column(SegmentScan *scan, int column);
extern uint64 courier_scan_xid(SegmentScan *scan, int column);
extern int64 courier_generation(void);

/* ---- queue_look.c ---- */
extern QueueExtent courier_queue_extent(QueueInterval *interval);

/* ---- queue_reader.c ---- */
extern bytea *courier_queue_page(QueueInterval *interval, ChunkPlace *place,
								 int32 most_chunks, int32 most_bytes);

#endif							/* COURIER_QUEUE_SCAN_H */
