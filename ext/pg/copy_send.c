/*
 * copy_send.c
 *	  Sends rows of a table over a link, straight from the table: the copy of
 *	  existing rows (pkg/copydata).
 *
 * The rows of a range of pages are written as array literals, one a column,
 * into a statement whose rest the engine gives, and the statement is sent when
 * it is long enough; so neither the engine nor this process ever holds more
 * of a table than one such statement.  A row that is much larger than that is
 * left to copy_value.c, which sends its values in slices.
 *
 * Rows come in the order of their places, by a scan of the range alone: where
 * one statement ends, the next one goes on.
 *
 * While the node works on a statement the next one can be made: it is kept with
 * the link until it is sent.
 */
#include "pg_courier.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "copy_rows.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "remote.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"

PG_FUNCTION_INFO_V1(courier_copy_send);
PG_FUNCTION_INFO_V1(courier_copy_read);

extern Datum courier_remote_send(PG_FUNCTION_ARGS);

/* Rows fetched at once; their values out of line are not among them. */
#define FETCHED_ROWS 64

/*
 * A cursor over the rows of a table between two places.  It must not go by an
 * index, nor begin in the middle of the table: the planner gets no other
 * choice than the places.
 */
Portal
courier_copy_open(const char *query, Datum first, Datum behind)
{
	static const char *const unwanted[] = {"enable_seqscan",
		"enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan",
	};
	Oid			types[] = {TIDOID, TIDOID};
	Datum		values[] = {first, behind};
	int			level = NewGUCNestLevel();
	Portal		portal;

	for (Size i = 0; i < lengthof(unwanted); i++)
		courier_set_guc(unwanted[i], "off");
	courier_set_guc("enable_tidscan", "on");
	portal = SPI_cursor_open_with_args(NULL, query, 2, types, values, NULL,
									   true, CURSOR_OPT_NO_SCROLL);
	AtEOXact_GUC(false, level);
	return portal;
}

/* Bytes that a value takes in a row, before any compression. */
static int64
raw_size(Datum value, int16 length)
{
	return length == -1 ? (int64) toast_raw_datum_size(value) : 0;
}

/*
 * Is what an output function writes never empty, never NULL, and without
 * anything that has a meaning in an array literal?  Then it needs no quotes,
 * which cost both sides more than a look at it would.
 */
bool
courier_is_plain(Oid output)
{
	switch (output)
	{
		case F_BOOLOUT:
		case F_INT2OUT:
		case F_INT4OUT:
		case F_INT8OUT:
		case F_OIDOUT:
		case F_FLOAT4OUT:
		case F_FLOAT8OUT:
		case F_NUMERIC_OUT:
		case F_DATE_OUT:
		case F_TIME_OUT:
		case F_TIMESTAMP_OUT:
		case F_TIMESTAMPTZ_OUT:
		case F_UUID_OUT:
			return true;
		default:
			return false;
	}
}

/* Appends a value as an element of an array literal inside a string literal. */
static void
append_element(StringInfo buffer, const char *text)
{
	appendStringInfoCharMacro(buffer, '"');
	for (const char *from = text;;)
	{
		Size		plain = strcspn(from, "\"\\'");

		appendBinaryStringInfo(buffer, from, plain);
		from += plain;
		if (*from == '\0')
			break;
		appendStringInfoCharMacro(buffer, *from == '\'' ? '\'' : '\\');
		appendStringInfoCharMacro(buffer, *from++);
	}
	appendStringInfoCharMacro(buffer, '"');
}

/* What is known of the columns that are sent: those behind the ctid. */
typedef struct CopyColumns
{
	int			count;
	FmgrInfo   *output;
	bool	   *plain;			/* see courier_is_plain() */
	int16	   *length;
	StringInfoData *literals;
} CopyColumns;

static void
look_at_columns(CopyColumns *columns, TupleDesc desc)
{
	columns->count = desc->natts - 1;
	columns->output = palloc(sizeof(FmgrInfo) * columns->count);
	columns->plain = palloc(sizeof(bool) * columns->count);
	columns->length = palloc(sizeof(int16) * columns->count);
	columns->literals = palloc(sizeof(StringInfoData) * columns->count);
	for (int i = 0; i < columns->count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i + 1);
		Oid			function;
		bool		is_varlena;

		getTypeOutputInfo(attribute->atttypid, &function, &is_varlena);
		fmgr_info(function, &columns->output[i]);
		columns->plain[i] = courier_is_plain(function);
		columns->length[i] = attribute->attlen;
		initStringInfo(&columns->literals[i]);
	}
}

/* Appends a row to the literals; returns how long they have become. */
static int64
append_row(CopyColumns *columns, Datum *values, bool *nulls, bool first)
{
	int64		bytes = 0;

	for (int i = 0; i < columns->count; i++)
	{
		StringInfo	literal = &columns->literals[i];

		if (!first)
			appendStringInfoCharMacro(literal, ',');
		if (nulls[i + 1])
			appendStringInfoString(literal, "NULL");
		else
		{
			char	   *text = OutputFunctionCall(&columns->output[i],
												  values[i + 1]);

			if (columns->plain[i])
				appendStringInfoString(literal, text);
			else
				append_element(literal, text);
		}
		bytes += literal->len;
	}
	return bytes;
}

/*
 * The statement: its head, and behind each literal what follows it.  Made in
 * the current memory context, and of the size it will have.
 */
static text *
assemble(text *head, ArrayType *joints, CopyColumns *columns)
{
	StringInfoData statement;
	Datum	   *parts;
	int			nparts;
	int			size = VARHDRSZ + VARSIZE_ANY_EXHDR(head);

	deconstruct_array(joints, TEXTOID, -1, false, TYPALIGN_INT, &parts, NULL,
					  &nparts);
	if (nparts != columns->count)
		elog(ERROR, "%d parts of a statement for %d columns", nparts,
			 columns->count);
	for (int i = 0; i < nparts; i++)
		size += columns->literals[i].len + VARSIZE_ANY_EXHDR(DatumGetPointer(parts[i]));
	initStringInfo(&statement);
	enlargeStringInfo(&statement, size);
	appendStringInfoSpaces(&statement, VARHDRSZ);
	appendBinaryStringInfo(&statement, VARDATA_ANY(head),
						   VARSIZE_ANY_EXHDR(head));
	for (int i = 0; i < nparts; i++)
	{
		text	   *part = DatumGetTextPP(parts[i]);

		appendBinaryStringInfo(&statement, columns->literals[i].data,
							   columns->literals[i].len);
		pfree(columns->literals[i].data);
		appendBinaryStringInfo(&statement, VARDATA_ANY(part),
							   VARSIZE_ANY_EXHDR(part));
	}
	SET_VARSIZE(statement.data, statement.len);
	return (text *) statement.data;
}

/* Where reading has stopped. */
typedef struct CopyStop
{
	int64		rows;
	int64		bytes;
	ItemPointer next;			/* the first row that is not sent, or NULL */
	ArrayType  *sizes;			/* of its values, if it is too large */
} CopyStop;

/* Sizes of the values of a row, those of a fixed length as 0. */
static ArrayType *
sizes_of(CopyColumns *columns, Datum *values, bool *nulls)
{
	Datum	   *sizes = palloc(sizeof(Datum) * columns->count);

	for (int i = 0; i < columns->count; i++)
		sizes[i] = Int64GetDatum(nulls[i + 1] ? 0 :
								 raw_size(values[i + 1], columns->length[i]));
	return construct_array(sizes, columns->count, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/*
 * Reads rows into the literals until there are so many bytes of them, or a
 * row comes that is too large; such a row alone is told of by its sizes.
 */
static void
read_rows(Portal portal, CopyColumns *columns, int64 most, int64 largest,
		  MemoryContext keep, CopyStop *stop)
{
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_courier copied row",
												  ALLOCSET_DEFAULT_SIZES);
	TupleDesc	desc = portal->tupDesc;
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCHED_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 r = 0; r < SPI_processed; r++)
		{
			int64		size = 0;
			MemoryContext old_context;

			heap_deform_tuple(SPI_tuptable->vals[r], desc, values, nulls);
			for (int i = 0; i < columns->count; i++)
				if (!nulls[i + 1])
					size += raw_size(values[i + 1], columns->length[i]);
			if (stop->bytes >= most || size > largest)
			{
				old_context = MemoryContextSwitchTo(keep);
				stop->next = palloc(sizeof(ItemPointerData));
				*stop->next = *(ItemPointer) DatumGetPointer(values[0]);
				if (stop->rows == 0)
					stop->sizes = sizes_of(columns, values, nulls);
				MemoryContextSwitchTo(old_context);
				return;
			}
			old_context = MemoryContextSwitchTo(per_row);
			stop->bytes = append_row(columns, values, nulls, stop->rows++ == 0);
			MemoryContextSwitchTo(old_context);
			MemoryContextReset(per_row);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Reads rows as the arguments of copy_send() say.  Returns the statement, made
 * in a memory context, or NULL if there is no row.
 */
static text *
read_statement(FunctionCallInfo fcinfo, MemoryContext into, CopyStop *stop)
{
	MemoryContext context = CurrentMemoryContext;
	CopyColumns columns;
	Portal		portal;
	text	   *statement = NULL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	portal = courier_copy_open(text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   PG_GETARG_DATUM(2), PG_GETARG_DATUM(3));
	look_at_columns(&columns, portal->tupDesc);
	read_rows(portal, &columns, PG_GETARG_INT32(6), PG_GETARG_INT32(7),
			  context, stop);
	SPI_cursor_close(portal);
	if (stop->rows > 0)
	{
		MemoryContext old_context = MemoryContextSwitchTo(into);

		statement = assemble(PG_GETARG_TEXT_PP(4), PG_GETARG_ARRAYTYPE_P(5),
							 &columns);
		MemoryContextSwitchTo(old_context);
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
	return statement;
}

/* What both functions return. */
static Datum
stop_row(FunctionCallInfo fcinfo, CopyStop *stop)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(stop->rows);
	values[1] = Int64GetDatum(stop->bytes);
	values[2] = PointerGetDatum(stop->next);
	nulls[2] = stop->next == NULL;
	values[3] = PointerGetDatum(stop->sizes);
	nulls[3] = stop->sizes == NULL;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/*
 * courier.copy_send(connection text, query text, first tid, behind tid,
 *		head text, joints text[], most int4, largest int4, silence int4)
 * → rows int8, bytes int8, next tid, sizes int8[]
 *
 * The query gives ctid and the columns for two places, $1 and $2.
 */
Datum
courier_copy_send(PG_FUNCTION_ARGS)
{
	CopyStop	stop = {0};
	text	   *statement = read_statement(fcinfo, CurrentMemoryContext, &stop);

	if (statement != NULL)
		(void) DirectFunctionCall3(courier_remote_send, PG_GETARG_DATUM(0),
								   PointerGetDatum(statement),
								   PG_GETARG_DATUM(8));
	PG_RETURN_DATUM(stop_row(fcinfo, &stop));
}

/*
 * courier.copy_read(connection text, query text, first tid, behind tid,
 *		head text, joints text[], most int4, largest int4)
 * → as copy_send()
 *
 * Keeps the statement, in place of one that was kept before and not sent.
 */
Datum
courier_copy_read(PG_FUNCTION_ARGS)
{
	CopyStop	stop = {0};
	RemoteLink *link = courier_find_link(PG_GETARG_DATUM(0));

	link->kept = NULL;
	MemoryContextReset(link->keeping);
	link->kept = read_statement(fcinfo, link->keeping, &stop);
	PG_RETURN_DATUM(stop_row(fcinfo, &stop));
}
