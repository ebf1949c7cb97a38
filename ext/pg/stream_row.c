/*
 * stream_row.c
 *	  Rows as the two formats of COPY have them.
 *
 * Binary costs the node less, and is for types whose binary form is the same on
 * every server; the shipper knows which.  Texts are in the database's encoding in
 * both formats, which the stream has as its client encoding: the types' own send
 * functions would convert them for this session's client.
 */
#include "pg_courier.h"

#include "catalog/pg_type.h"
#include "copy_rows.h"
#include "libpq/pqformat.h"
#include "stream_row.h"
#include "utils/lsyscache.h"

/* Columns of a query behind the first, which is ctid, and not sent. */
StreamedColumn *
courier_stream_columns(TupleDesc desc, bool binary)
{
	StreamedColumn *columns = palloc(sizeof(StreamedColumn) * desc->natts);

	for (int i = 1; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		StreamedColumn *column = &columns[i];
		Oid			function;
		bool		is_varlena;

		column->length = attribute->attlen;
		getTypeOutputInfo(attribute->atttypid, &function, &is_varlena);
		column->form = courier_is_plain(function) ? STREAM_PLAIN_TEXT : STREAM_TEXT;
		if (binary && attribute->attbyval)
			column->form = STREAM_NUMBER;
		else if (binary)
			switch (attribute->atttypid)
			{
				case TEXTOID:
				case VARCHAROID:
				case BPCHAROID:
				case JSONOID:
				case BYTEAOID:
					column->form = STREAM_BYTES;
					break;
				case JSONBOID:
					column->form = STREAM_JSONB;
					break;
				default:
					column->form = STREAM_SENT;
					getTypeBinaryOutputInfo(attribute->atttypid, &function, &is_varlena);
			}
		fmgr_info(function, &column->function);
	}
	return columns;
}

/* Appends a value with escapes. */
static void
append_escaped(StringInfo buffer, const char *text)
{
	const char *from = text;

	for (const char *c = text;; c++)
	{
		char		code;

		switch (*c)
		{
			case '\0':
				appendBinaryStringInfo(buffer, from, c - from);
				return;
			case '\\':
				code = '\\';
				break;
			case '\n':
				code = 'n';
				break;
			case '\r':
				code = 'r';
				break;
			case '\t':
				code = 't';
				break;
			default:
				continue;
		}
		appendBinaryStringInfo(buffer, from, c - from);
		appendStringInfoCharMacro(buffer, '\\');
		appendStringInfoCharMacro(buffer, code);
		from = c + 1;
	}
}

/* What is before the rows of the binary format. */
void
courier_append_copy_header(StringInfo buffer)
{
	appendBinaryStringInfo(buffer, "PGCOPY\n\377\r\n", 11);
	pq_sendint32(buffer, 0);	/* no flags */
	pq_sendint32(buffer, 0);	/* nothing else */
}

static void
append_bytes(StringInfo buffer, Datum value)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

	pq_sendint32(buffer, VARSIZE_ANY_EXHDR(bytes));
	appendBinaryStringInfo(buffer, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static void
append_number(StringInfo buffer, int length, Datum value)
{
	pq_sendint32(buffer, length);
	switch (length)
	{
		case sizeof(uint8):
			pq_sendint8(buffer, DatumGetUInt8(value));
			break;
		case sizeof(uint16):
			pq_sendint16(buffer, DatumGetUInt16(value));
			break;
		case sizeof(uint32):
			pq_sendint32(buffer, DatumGetUInt32(value));
			break;
		default:
			pq_sendint64(buffer, DatumGetInt64(value));
	}
}

static void
append_value(StringInfo buffer, StreamedColumn *column, Datum value)
{
	char	   *text;

	switch (column->form)
	{
		case STREAM_TEXT:
			append_escaped(buffer, OutputFunctionCall(&column->function, value));
			break;
		case STREAM_PLAIN_TEXT:
			appendStringInfoString(buffer, OutputFunctionCall(&column->function, value));
			break;
		case STREAM_NUMBER:
			append_number(buffer, column->length, value);
			break;
		case STREAM_BYTES:
			append_bytes(buffer, value);
			break;
		case STREAM_JSONB:
			text = OutputFunctionCall(&column->function, value);
			pq_sendint32(buffer, strlen(text) + 1);
			pq_sendint8(buffer, 1);
			appendStringInfoString(buffer, text);
			break;
		case STREAM_SENT:
			append_bytes(buffer, PointerGetDatum(SendFunctionCall(&column->function, value)));
			break;
	}
}

/* Appends a row. */
void
courier_append_copied(StringInfo buffer, StreamedColumn *columns, int natts,
					  Datum *values, bool *nulls, bool binary)
{
	if (binary)
		pq_sendint16(buffer, natts - 1);
	for (int i = 1; i < natts; i++)
	{
		if (!binary && i > 1)
			appendStringInfoCharMacro(buffer, '\t');
		if (!nulls[i])
			append_value(buffer, &columns[i], values[i]);
		else if (binary)
			pq_sendint32(buffer, (uint32) -1);
		else
			appendBinaryStringInfo(buffer, "\\N", 2);
	}
	if (!binary)
		appendStringInfoCharMacro(buffer, '\n');
}
