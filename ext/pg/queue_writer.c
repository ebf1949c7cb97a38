/*
 * queue_writer.c
 *	  Stores a transaction's messages in the queue when it is about to commit.
 *
 * Called at PRE_COMMIT and PRE_PREPARE, when no user code can run any more.
 * The messages are cut into chunks that fit a heap page; a message that does
 * not fit goes on in the chunks behind.  All chunks bear the same K, the WAL
 * insert position now: a transaction that depends on this one commits after
 * it and takes a larger K, so K orders transactions by dependency.
 *
 * Rows go straight into table and indexes, without executor or SPI.
 */
#include "pg_courier.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "replication/origin.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define MAX_QUEUE_INDEXES 4

/* The hybrid clock: milliseconds since 1970 above, a counter in the rest. */
#define CLOCK_COUNTER_BITS 16
#define UNIX_EPOCH_MICROSECONDS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* The segment being written and its indexes. */
typedef struct QueueWriter
{
	Relation	segment;
	int			nindexes;
	Relation	indexes[MAX_QUEUE_INDEXES];
	IndexInfo  *index_infos[MAX_QUEUE_INDEXES];
	BulkInsertState bulk;
	CommandId	command;
	Datum		values[QUEUE_COLUMNS];
	bool		nulls[QUEUE_COLUMNS];

	/* the chunk being filled */
	bytea	   *chunk;
	Size		used;
	int32		changes;
	int32		seq;
} QueueWriter;

void
courier_queue_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("pg_courier's queue does not exist"),
			 errhint("The extension is damaged; drop and create it again.")));
}

/*
 * The time of this commit on the hybrid logical clock: never goes back
 * within a backend, whatever the system clock does.
 */
static int64
hybrid_clock(TimestampTz timestamp)
{
	static int64 last = 0;
	int64		milliseconds = (timestamp + UNIX_EPOCH_MICROSECONDS) / 1000;
	int64		now = milliseconds << CLOCK_COUNTER_BITS;

	last = Max(now, last + 1);
	return last;
}

static void
open_writer(QueueWriter *writer)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *lc;

	memset(writer, 0, sizeof(QueueWriter));
	writer->segment = table_open(courier_current_segment(), RowExclusiveLock);
	foreach(lc, RelationGetIndexList(writer->segment))
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

		if (writer->nindexes == MAX_QUEUE_INDEXES)
			elog(ERROR, "too many indexes on pg_courier's queue");
		writer->indexes[writer->nindexes] = index;
		writer->index_infos[writer->nindexes] = BuildIndexInfo(index);
		writer->nindexes++;
	}
	if (courier_queue_max_size > 0)
		courier_require_room(writer->segment, writer->indexes,
							 writer->nindexes, now, 0);
	writer->command = GetCurrentCommandId(true);
	writer->values[QUEUE_K - 1] = LSNGetDatum(GetXLogInsertRecPtr());
	writer->values[QUEUE_XID - 1] =
		FullTransactionIdGetDatum(GetTopFullTransactionId());
	writer->values[QUEUE_ORIGIN - 1] =
		Int32GetDatum((int32) replorigin_session_origin);
	writer->values[QUEUE_CLOCK - 1] = Int64GetDatum(hybrid_clock(now));
	writer->chunk = palloc(VARHDRSZ + COURIER_CHUNK_SIZE);
}

static void
insert_into_indexes(QueueWriter *writer, ItemPointer tid)
{
	for (int i = 0; i < writer->nindexes; i++)
	{
		Relation	index = writer->indexes[i];
		IndexInfo  *info = writer->index_infos[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS] = {0};

		for (int c = 0; c < info->ii_NumIndexAttrs; c++)
			values[c] = writer->values[info->ii_IndexAttrNumbers[c] - 1];
		index_insert(index, values, nulls, tid, writer->segment,
					 UNIQUE_CHECK_NO, false, info);
	}
}

/* Stores the chunk that is being filled, and begins the next. */
static void
store_chunk(QueueWriter *writer)
{
	HeapTuple	tuple;

	if (writer->used == 0)
		return;

	SET_VARSIZE(writer->chunk, VARHDRSZ + writer->used);
	writer->values[QUEUE_SEQ - 1] = Int32GetDatum(writer->seq);
	writer->values[QUEUE_CHANGES - 1] = Int32GetDatum(writer->changes);
	writer->values[QUEUE_DATA - 1] = PointerGetDatum(writer->chunk);

	/* a transaction of one chunk shares pages with its neighbours */
	if (writer->seq == 1)
		writer->bulk = GetBulkInsertState();

	tuple = heap_form_tuple(RelationGetDescr(writer->segment),
							writer->values, writer->nulls);
	heap_insert(writer->segment, tuple, writer->command, 0, writer->bulk);
	insert_into_indexes(writer, &tuple->t_self);
	if (courier_queue_max_size > 0)
		courier_require_room(writer->segment, writer->indexes,
							 writer->nindexes, 0, tuple->t_len);
	heap_freetuple(tuple);

	writer->seq++;
	writer->used = 0;
	writer->changes = 0;
	CHECK_FOR_INTERRUPTS();
}

/* Copies one message, cut where a chunk ends, with its length before it. */
static void
store_message(QueueWriter *writer, CourierBufferReader *reader, Size length)
{
	uint32		header = pg_hton32((uint32) length);

	/* whole in the present chunk if it fits, else from a fresh one on */
	if (writer->used + sizeof(header) + length > COURIER_CHUNK_SIZE)
		store_chunk(writer);

	memcpy(VARDATA(writer->chunk) + writer->used, &header, sizeof(header));
	writer->used += sizeof(header);
	writer->changes++;

	while (length > 0)
	{
		Size		part = Min(length, COURIER_CHUNK_SIZE - writer->used);

		courier_buffer_copy(reader, VARDATA(writer->chunk) + writer->used,
							part);
		writer->used += part;
		length -= part;
		if (length > 0)
			store_chunk(writer);
	}
}

static void
close_writer(QueueWriter *writer)
{
	if (writer->bulk != NULL)
		FreeBulkInsertState(writer->bulk);
	for (int i = 0; i < writer->nindexes; i++)
	{
		courier_index_insert_cleanup(writer->indexes[i],
									 writer->index_infos[i]);
		index_close(writer->indexes[i], NoLock);
	}

	/* The lock tells rotation that a writer is in flight: kept to the end. */
	table_close(writer->segment, NoLock);
}

void
courier_flush_to_queue(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_courier queue writer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	CourierBufferReader *reader;
	QueueWriter writer;
	Size		length;

	/* toasting a shape and some access methods want an active snapshot */
	PushActiveSnapshot(GetTransactionSnapshot());
	courier_shape_store_mentioned();

	open_writer(&writer);
	reader = courier_buffer_read();
	while (courier_buffer_next_frame(reader, &length))
		store_message(&writer, reader, length);
	store_chunk(&writer);
	close_writer(&writer);

	PopActiveSnapshot();
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}
