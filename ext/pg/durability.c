/*
 * durability.c
 *	  Makes sure that the source does not forget what it has shipped.
 *
 * A transaction committed with synchronous_commit = off is visible before its
 * commit is on disk.  Shipped then, it would live on at the target after a
 * crash here that loses it; worse, its transaction id would be used again, by
 * changes that the target's position declares shipped already.
 *
 * A standby that is promoted, or a restored backup, can have lost what was on
 * disk here.  So the target also keeps the timeline and the location up to
 * which our WAL was on disk, and whoever claims to be this source has to have
 * been there.
 */
#include "pg_courier.h"

#include "access/timeline.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "funcapi.h"
#include "utils/pg_lsn.h"

PG_FUNCTION_INFO_V1(courier_flush_wal);
PG_FUNCTION_INFO_V1(courier_has_passed);

/* The commit log remembers at least this many; older ones are long on disk. */
#define CERTAINLY_FLUSHED 1000000

/*
 * Returns once the commit of a transaction that the caller sees is on disk.
 * Synchronous commits cost a look into the commit log.
 */
void
courier_flush_transaction(uint64 xid)
{
	static uint64 last = 0;
	uint64		next;

	if (xid == last)
		return;
	next = U64FromFullTransactionId(ReadNextFullTransactionId());
	if (xid + CERTAINLY_FLUSHED > next)
	{
		XLogRecPtr	commit = TransactionIdGetCommitLSN((TransactionId) xid);

		if (!XLogRecPtrIsInvalid(commit))
			XLogFlush(commit);
	}
	last = xid;
}

/*
 * Where the last WAL record ends.  At the start of a page the insert position
 * is behind a header that nobody has written yet, and can't be flushed.
 */
static XLogRecPtr
end_of_wal(void)
{
	XLogRecPtr	position = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(position, wal_segment_size) == SizeOfXLogLongPHD)
		return position - SizeOfXLogLongPHD;
	if (position % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return position - SizeOfXLogShortPHD;
	return position;
}

/* Up to where, and on which timeline, our WAL is on disk. */
XLogRecPtr
courier_flushed(TimeLineID *timeline)
{
	if (RecoveryInProgress())
		return GetXLogReplayRecPtr(timeline);
	return courier_flush_location(timeline);
}

/*
 * courier.flush_wal() → (timeline, flushed): all that has been written so far
 * is on disk, and that ends there or before.
 */
Datum
courier_flush_wal(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	TimeLineID	timeline;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!RecoveryInProgress())
		XLogFlush(end_of_wal());
	values[1] = LSNGetDatum(courier_flushed(&timeline));
	values[0] = Int32GetDatum((int32) timeline);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * courier.has_passed(timeline, location) → bool: is all WAL up to there in the
 * past of this server?
 */
Datum
courier_has_passed(PG_FUNCTION_ARGS)
{
	TimeLineID	timeline = (TimeLineID) PG_GETARG_INT32(0);
	XLogRecPtr	location = PG_GETARG_LSN(1);
	TimeLineID	present;
	XLogRecPtr	flushed = courier_flushed(&present);
	ListCell   *cell;

	if (timeline == present)
		PG_RETURN_BOOL(location <= flushed);
	foreach(cell, readTimeLineHistory(present))
	{
		TimeLineHistoryEntry *entry = (TimeLineHistoryEntry *) lfirst(cell);

		if (entry->tli == timeline)
			PG_RETURN_BOOL(location <= entry->end);
	}
	PG_RETURN_BOOL(false);
}
