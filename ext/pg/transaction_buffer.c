/*
 * transaction_buffer.c
 *	  The messages of the current transaction, until it commits.
 *
 * The buffer is a log of frames: a message's length (4 bytes, big-endian)
 * and the message.  Where the place in the order of changes is another than
 * that of the message before (capture_order.c), a frame of its own says so;
 * buffer_reader.c reads all back in that order.
 *
 * A savepoint is a mark on the log, taken when the first message is written
 * inside the subtransaction; a rollback truncates the log to the mark, a
 * release hands the mark to the parent.  Thousands of subtransactions that
 * capture nothing therefore cost nothing.
 *
 * The log's tail is kept in memory; past courier.buffer_memory it is moved
 * to a temporary file, which belongs to the top-level transaction: it is
 * closed at PRE_COMMIT, while an error (disk full) may still be raised, and
 * left to the resource owner on abort.  A message is always whole in one of
 * the two: it is written in memory, and moved only when it is complete.
 *
 * An error in the middle of a message leaves bytes behind the last complete
 * one; the next message overwrites them.
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "port/pg_bswap.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* Kept between transactions, so that a short one allocates nothing. */
#define KEPT_CAPACITY ((Size) 16 * 1024)

/*
 * The text of a batch must fit into a PostgreSQL value of 1 GB, with quotes
 * and backslashes doubled.
 */
#define LARGEST_MESSAGE ((Size) 500 * 1024 * 1024)

typedef struct SavepointMark
{
	SubTransactionId subxact;
	uint64		length;			/* of the log when it began to write */
} SavepointMark;

static MemoryContext buffer_context = NULL;
static char *memory = NULL;		/* the log from "spilled" on */
static Size capacity = 0;
static Size complete = 0;		/* bytes of complete frames in memory */
static Size written = 0;		/* … and of the one being written */

static BufFile *spill = NULL;
static uint64 spilled = 0;		/* bytes of the log in the file */
static uint64 file_at = PG_UINT64_MAX;	/* where the file is read on */

/* The place of the next message; of the last one, 0 if that is not known. */
static uint64 place = 0;
static uint64 written_place = 0;
static uint64 highest_place = 0;
static bool in_order = true;

/* This transaction's log is in the queue: it takes no more messages. */
static bool flushed = false;

static SavepointMark *marks = NULL;
static int	nmarks = 0;
static int	max_marks = 0;

static void subxact_callback(SubXactEvent event, SubTransactionId mine,
							 SubTransactionId parent, void *arg);

void
courier_buffer_init(void)
{
	buffer_context = AllocSetContextCreate(TopMemoryContext,
										   "pg_courier transaction buffer",
										   ALLOCSET_DEFAULT_SIZES);
	RegisterSubXactCallback(subxact_callback, NULL);
}

/* Makes room for "more" bytes behind what is written. */
static void
ensure_capacity(Size more)
{
	Size		needed = written + more;
	Size		larger;

	if (likely(needed <= capacity))
		return;

	larger = Max(capacity, KEPT_CAPACITY);
	while (larger < needed)
		larger *= 2;
	if (memory == NULL)
		memory = MemoryContextAllocHuge(buffer_context, larger);
	else
		memory = repalloc_huge(memory, larger);
	capacity = larger;
}

/*
 * If this is a subtransaction's first message, remembers where to truncate
 * the log should it roll back.
 */
static void
mark_savepoint(void)
{
	SubTransactionId subxact;

	if (likely(GetCurrentTransactionNestLevel() <= 1))
		return;

	subxact = GetCurrentSubTransactionId();
	if (nmarks > 0 && marks[nmarks - 1].subxact == subxact)
		return;

	if (nmarks == max_marks)
	{
		int			larger = max_marks == 0 ? 16 : max_marks * 2;

		if (marks == NULL)
			marks = MemoryContextAllocHuge(buffer_context,
										   larger * sizeof(SavepointMark));
		else
			marks = repalloc_huge(marks, larger * sizeof(SavepointMark));
		max_marks = larger;
	}
	marks[nmarks].subxact = subxact;
	marks[nmarks].length = spilled + complete;
	nmarks++;
}

/*
 * Places the messages that follow in the order of changes: behind those with
 * a lower place, wherever they stand in the log.  Without, a message goes with
 * the one before it.
 */
void
courier_buffer_place(uint64 next)
{
	place = next;
}

static void
write_place(void)
{
	uint32		header = COURIER_PLACE_FRAME;

	written = complete;
	courier_put_bytes((char *) &header, sizeof(header));
	courier_put_bytes((char *) &place, sizeof(place));
	complete = written;
	if (place < highest_place)
		in_order = false;
	highest_place = Max(highest_place, place);
	written_place = place;
}

void
courier_message_begin(void)
{
	if (unlikely(flushed))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a change was made after this transaction's changes were queued"),
				 errhint("Another extension writes to a replicated table while the transaction commits.")));
	mark_savepoint();
	if (place != written_place)
		write_place();
	written = complete;
	ensure_capacity(COURIER_FRAME_HEADER);
	written += COURIER_FRAME_HEADER;
}

/* Moves the complete frames to the temporary file. */
static void
spill_to_file(void)
{
	if (spill == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);
		ResourceOwner old_owner = CurrentResourceOwner;

		/*
		 * The file must outlive the statement and the subtransaction, and
		 * must be closed by whatever ends the transaction.
		 */
		CurrentResourceOwner = TopTransactionResourceOwner;
		spill = BufFileCreateTemp(false);
		CurrentResourceOwner = old_owner;
		MemoryContextSwitchTo(old_context);
	}

	if (BufFileSeek(spill, 0, (off_t) spilled, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the spilled changes of this transaction: %m")));
	BufFileWrite(spill, memory, complete);
	file_at = PG_UINT64_MAX;
	spilled += complete;
	complete = 0;
	written = 0;
}

/*
 * Raises an error if a row's text form is larger than can be shipped.  Also
 * called ahead, with what a single value will take: an output function's own
 * error would speak of a memory request.
 */
void
courier_require_size(Size length)
{
	if (unlikely(length > LARGEST_MESSAGE))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the row is too large to be captured by pg_courier"),
				 errdetail("Its text form takes %zu bytes or more, the limit is %zu.",
						   length, LARGEST_MESSAGE),
				 errhint("Store the value in pieces, or take the table out of its replication sets.")));
}

void
courier_message_end(void)
{
	Size		length = written - complete - COURIER_FRAME_HEADER;
	uint32		header;

	courier_require_size(length);

	header = pg_hton32((uint32) length);
	memcpy(memory + complete, &header, COURIER_FRAME_HEADER);
	complete = written;

	if (complete > (Size) courier_buffer_memory * 1024)
		spill_to_file();
}

/* ---- writing parts of a message ---- */

char *
courier_put_reserve(Size length)
{
	ensure_capacity(length);
	return memory + written;
}

void
courier_put_advance(Size length)
{
	written += length;
}

Size
courier_put_tell(void)
{
	return written;
}

void
courier_put_bytes(const char *data, Size length)
{
	memcpy(courier_put_reserve(length), data, length);
	written += length;
}

void
courier_put_byte(char c)
{
	ensure_capacity(1);
	memory[written++] = c;
}

void
courier_put_int16(int16 value)
{
	uint16		wire = pg_hton16((uint16) value);

	courier_put_bytes((char *) &wire, sizeof(wire));
}

void
courier_put_int32(int32 value)
{
	uint32		wire = pg_hton32((uint32) value);

	courier_put_bytes((char *) &wire, sizeof(wire));
}

void
courier_put_int64(int64 value)
{
	uint64		wire = pg_hton64((uint64) value);

	courier_put_bytes((char *) &wire, sizeof(wire));
}

void
courier_put_int32_at(Size where, int32 value)
{
	uint32		wire = pg_hton32((uint32) value);

	memcpy(memory + where, &wire, sizeof(wire));
}

/* ---- reading the log back ---- */

bool
courier_buffer_is_empty(void)
{
	return spilled + complete == 0;
}

/* Are the messages in the log as their places are? */
bool
courier_buffer_in_order(void)
{
	return in_order;
}

uint64
courier_buffer_length(void)
{
	return spilled + complete;
}

/* Copies bytes of the log, which never straddle file and memory, as frames don't. */
void
courier_buffer_copy_at(uint64 position, char *dest, Size length)
{
	if (position >= spilled)
	{
		memcpy(dest, memory + (position - spilled), length);
		return;
	}
	if (position != file_at &&
		BufFileSeek(spill, 0, (off_t) position, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the spilled changes of this transaction: %m")));
	courier_buffile_read(spill, dest, length);
	file_at = position + length;
}

/* ---- transaction ends ---- */

static void
truncate_log(uint64 length)
{
	if (length >= spilled)
		complete = (Size) (length - spilled);
	else
	{
		spilled = length;
		complete = 0;
	}
	written = complete;
	written_place = 0;
}

/*
 * The log is in the queue.  What may fail happens here, at PRE_COMMIT: a
 * temporary file of which nothing is left may still have to be written.
 */
void
courier_buffer_close(void)
{
	if (spill != NULL)
		BufFileClose(spill);
	courier_buffer_reset();
	flushed = true;
}

/* Empties the log for the next transaction; never fails. */
void
courier_buffer_reset(void)
{
	complete = written = 0;
	spilled = 0;
	file_at = PG_UINT64_MAX;
	place = written_place = highest_place = 0;
	in_order = true;
	nmarks = 0;
	spill = NULL;
	flushed = false;
	if (capacity > KEPT_CAPACITY)
	{
		pfree(memory);
		memory = NULL;
		capacity = 0;
	}
	if (max_marks > 1024)
	{
		pfree(marks);
		marks = NULL;
		max_marks = 0;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mine,
				 SubTransactionId parent, void *arg)
{
	SavepointMark *top;

	if (likely(nmarks == 0))
		return;
	top = &marks[nmarks - 1];
	if (top->subxact != mine)
		return;

	switch (event)
	{
		case SUBXACT_EVENT_ABORT_SUB:
			truncate_log(top->length);
			nmarks--;
			break;

		case SUBXACT_EVENT_COMMIT_SUB:

			/*
			 * What it wrote is now the parent's.  The parent needs a mark
			 * only if it has none of its own, and the top-level transaction
			 * needs none at all.
			 */
			if (parent == TopSubTransactionId ||
				(nmarks > 1 && marks[nmarks - 2].subxact == parent))
				nmarks--;
			else
				top->subxact = parent;
			break;

		default:
			break;
	}
}
