/*
 * buffer_reader.c
 *	  Reads a transaction's messages back, in the order of their places.
 *
 * Most transactions have written them in that order, and are read from the
 * beginning to the end.  In one that has not, runs of messages of the same place
 * are found first, and sorted; within a place the order of the log stays.
 */
#include "pg_courier.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"

typedef struct MessageRun
{
	uint64		place;
	uint64		begin;			/* in the log */
	uint64		end;
} MessageRun;

struct CourierBufferReader
{
	uint64		position;		/* in the log */
	uint64		end;			/* of the run */
	MessageRun *runs;
	Size		nruns;
	Size		next;			/* run */
};

static int
compare_runs(const void *a, const void *b)
{
	const MessageRun *run = a;
	const MessageRun *other = b;

	if (run->place != other->place)
		return run->place < other->place ? -1 : 1;
	return run->begin < other->begin ? -1 : 1;
}

/* Reads the header of a frame; of one that tells a place, that too. */
static bool
read_header(uint64 *position, uint32 *header, uint64 *place)
{
	courier_buffer_copy_at(*position, (char *) header, sizeof(*header));
	*position += sizeof(*header);
	if (*header != COURIER_PLACE_FRAME)
		return false;
	courier_buffer_copy_at(*position, (char *) place, sizeof(*place));
	*position += sizeof(*place);
	return true;
}

static void
add_run(CourierBufferReader *reader, Size *capacity, MessageRun run)
{
	if (run.begin == run.end)
		return;
	if (reader->nruns == *capacity)
	{
		*capacity *= 2;
		reader->runs = repalloc_huge(reader->runs, *capacity * sizeof(MessageRun));
	}
	reader->runs[reader->nruns++] = run;
}

static void
sort_runs(CourierBufferReader *reader)
{
	uint64		end = courier_buffer_length();
	Size		capacity = 1024;
	uint64		position = 0;
	MessageRun	run = {0};

	reader->runs = palloc(capacity * sizeof(MessageRun));
	while (position < end)
	{
		uint64		begin = position;
		uint32		header;
		uint64		place;

		if (read_header(&position, &header, &place))
		{
			run.end = begin;
			add_run(reader, &capacity, run);
			run.place = place;
			run.begin = position;
		}
		else
			position += pg_ntoh32(header);
		CHECK_FOR_INTERRUPTS();
	}
	run.end = end;
	add_run(reader, &capacity, run);
	qsort(reader->runs, reader->nruns, sizeof(MessageRun), compare_runs);
}

CourierBufferReader *
courier_buffer_read(void)
{
	CourierBufferReader *reader = palloc0(sizeof(CourierBufferReader));

	if (courier_buffer_in_order())
		reader->end = courier_buffer_length();
	else
		sort_runs(reader);
	return reader;
}

/*
 * Reads the length of the next message, header not included; false at the
 * end.  The caller copies the message before it asks for the next.
 */
bool
courier_buffer_next_frame(CourierBufferReader *reader, Size *length)
{
	uint32		header;
	uint64		place;

	do
	{
		if (reader->position >= reader->end)
		{
			if (reader->next == reader->nruns)
				return false;
			reader->position = reader->runs[reader->next].begin;
			reader->end = reader->runs[reader->next].end;
			reader->next++;
		}
	} while (read_header(&reader->position, &header, &place));
	*length = pg_ntoh32(header);
	return true;
}

/* Copies the next bytes of the message and moves past them. */
void
courier_buffer_copy(CourierBufferReader *reader, char *dest, Size length)
{
	courier_buffer_copy_at(reader->position, dest, length);
	reader->position += length;
}
