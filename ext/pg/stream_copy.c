/*
 * stream_copy.c
 *	  courier.stream_copy(): rows of a table, read here, into the COPY that a
 *	  stream is in.
 *
 * What is read is not kept: the node inserts the first rows while the last
 * ones are read.
 */
#include "pg_courier.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "copy_rows.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "stream.h"
#include "stream_row.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(courier_stream_copy);

#define FETCHED_ROWS 100

/* So much is given to libpq at once. */
#define PART (128 * 1024)

/*
 * courier.stream_copy(stream text, query text, first tid, behind tid,
 *		most int4, largest int4)
 * → rows int8, bytes int8, next tid, large bool
 *
 * The query gives ctid and the columns for two places, $1 and $2.  It stops
 * behind "most" bytes, or at a row that is larger than "largest": "next" is the
 * first row that was not sent, or NULL.  The rows are in the format that the COPY
 * was begun with.
 */
Datum
courier_stream_copy(PG_FUNCTION_ARGS)
{
	CourierStream *stream = courier_stream(PG_GETARG_DATUM(0));
	int64		most = PG_GETARG_INT32(4);
	int64		largest = PG_GETARG_INT32(5);
	ItemPointerData next;
	bool		stopped = false;
	bool		large = false;
	int64		rows = 0;
	int64		bytes = 0;
	Portal		portal;
	TupleDesc	desc;
	StreamedColumn *columns;
	StringInfoData buffer;
	MemoryContext per_row;
	Datum	   *values;
	bool	   *nulls;
	Datum		results[4];
	bool		result_nulls[4] = {0};

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	portal = courier_copy_open(text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   PG_GETARG_DATUM(2), PG_GETARG_DATUM(3));
	desc = portal->tupDesc;
	columns = courier_stream_columns(desc, stream->binary);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	initStringInfo(&buffer);
	if (stream->unheaded)
		courier_append_copy_header(&buffer);
	stream->unheaded = false;
	per_row = AllocSetContextCreate(CurrentMemoryContext,
									"pg_courier streamed row",
									ALLOCSET_DEFAULT_SIZES);
	while (!stopped)
	{
		SPI_cursor_fetch(portal, true, FETCHED_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 r = 0; r < SPI_processed && !stopped; r++)
		{
			int64		size = 0;
			MemoryContext old_context;

			heap_deform_tuple(SPI_tuptable->vals[r], desc, values, nulls);
			for (int i = 1; i < desc->natts; i++)
				if (!nulls[i] && columns[i].length == -1)
					size += toast_raw_datum_size(values[i]);
			large = size > largest;
			if (large || bytes + buffer.len >= most)
			{
				next = *(ItemPointer) DatumGetPointer(values[0]);
				stopped = true;
				break;
			}
			old_context = MemoryContextSwitchTo(per_row);
			courier_append_copied(&buffer, columns, desc->natts, values, nulls,
								  stream->binary);
			MemoryContextSwitchTo(old_context);
			MemoryContextReset(per_row);
			rows++;
			if (buffer.len >= PART)
			{
				courier_stream_put(stream, buffer.data, buffer.len);
				bytes += buffer.len;
				resetStringInfo(&buffer);
			}
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	if (buffer.len > 0)
		courier_stream_put(stream, buffer.data, buffer.len);
	bytes += buffer.len;
	SPI_cursor_close(portal);
	SPI_finish();

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	results[0] = Int64GetDatum(rows);
	results[1] = Int64GetDatum(bytes);
	results[2] = PointerGetDatum(&next);
	result_nulls[2] = !stopped;
	results[3] = BoolGetDatum(large);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  results, result_nulls)));
}
