/*
 * durability.c
 *	  Makes sure that the source does not forget what it has shipped.
 *
 * A transaction committed with synchronous_commit = off is visible before its
 * commit is on disk.  Shipped then, it would live on at the target after a
 * crash here that loses it; worse, its transaction id would be used again, by
 * changes that the target's position declares shipped already.
 */
#include "pg_courier.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"

PG_FUNCTION_INFO_V1(courier_flush_wal);

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

/* courier.flush_wal(): all that has been written so far is on disk. */
Datum
courier_flush_wal(PG_FUNCTION_ARGS)
{
	if (!RecoveryInProgress())
		XLogFlush(end_of_wal());
	PG_RETURN_VOID();
}
