/*
 * copy_value.c
 *	  Sends one large value of a row over a link, slice by slice.
 *
 * A statement with a value of 50 MB in it would be in the memory of both
 * servers several times over.  So such a value goes to the node in slices,
 * which the statement that inserts the row puts together there.
 */
#include "pg_courier.h"

#include "catalog/pg_type.h"
#include "copy_rows.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(courier_copy_value_send);

extern Datum courier_remote_send(PG_FUNCTION_ARGS);

/*
 * The value's text form, or for a bytea its bytes, without a copy where there
 * need be none.
 */
static char *
content_of(Datum value, Oid type, int64 *length, bool *binary)
{
	Oid			output;
	bool		is_varlena;
	char	   *content;

	getTypeOutputInfo(type, &output, &is_varlena);
	*binary = output == F_BYTEAOUT;
	if (*binary || output == F_TEXTOUT || output == F_VARCHAROUT)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		*length = VARSIZE_ANY_EXHDR(bytes);
		return VARDATA_ANY(bytes);
	}
	content = OidOutputFunctionCall(output, value);
	*length = strlen(content);
	return content;
}

/* Appends bytes as the literal of a bytea. */
static void
append_bytes(StringInfo statement, const char *slice, int length)
{
	appendStringInfoString(statement, "\\x");
	enlargeStringInfo(statement, length * 2);
	statement->len += hex_encode(slice, length,
								 statement->data + statement->len);
	statement->data[statement->len] = '\0';
}

static void
append_text(StringInfo statement, const char *slice, int length)
{
	const char *end = slice + length;

	while (slice < end)
	{
		const char *quote = memchr(slice, '\'', end - slice);
		const char *stop = quote == NULL ? end : quote + 1;

		appendBinaryStringInfo(statement, slice, stop - slice);
		if (quote != NULL)
			appendStringInfoCharMacro(statement, '\'');
		slice = stop;
	}
}

/*
 * courier.copy_value_send(connection text, query text, place tid,
 *		number int4, "offset" int8, most int4, head text, tail text,
 *		silence int4) → next int8, "binary" bool
 *
 * Sends bytes "offset" and on, at most so many, of column "number" behind the
 * ctid of the row at a place.  "next" is where to go on, null behind the last.
 * "head" and "tail" are the statement around the literal.
 */
Datum
courier_copy_value_send(PG_FUNCTION_ARGS)
{
	ItemPointerData behind = *(ItemPointer) PG_GETARG_POINTER(2);
	int			number = PG_GETARG_INT32(3) + 1;
	int64		offset = PG_GETARG_INT64(4);
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {0};
	Portal		portal;
	Datum		value;
	bool		isnull;
	bool		binary;
	char	   *content;
	int64		length;
	int64		slice;
	StringInfoData statement;
	text	   *head = PG_GETARG_TEXT_PP(6);
	text	   *tail = PG_GETARG_TEXT_PP(7);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	ItemPointerSetOffsetNumber(&behind,
							   ItemPointerGetOffsetNumber(&behind) + 1);
	portal = courier_copy_open(text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   PG_GETARG_DATUM(2),
							   PointerGetDatum(&behind));
	SPI_cursor_fetch(portal, true, 1);
	if (SPI_processed != 1)
		elog(ERROR, "a row to be copied is not there any more");
	value = SPI_getbinval(SPI_tuptable->vals[0], portal->tupDesc, number,
						  &isnull);
	if (isnull)
		elog(ERROR, "a large value to be copied is null");
	content = content_of(value, SPI_gettypeid(portal->tupDesc, number),
						 &length, &binary);

	slice = Min(length - offset, PG_GETARG_INT32(5));
	if (!binary && offset + slice < length)
		slice = pg_mbcliplen(content + offset, (int) slice, (int) slice);
	initStringInfo(&statement);
	appendStringInfoSpaces(&statement, VARHDRSZ);
	appendBinaryStringInfo(&statement, VARDATA_ANY(head),
						   VARSIZE_ANY_EXHDR(head));
	if (binary)
		append_bytes(&statement, content + offset, (int) slice);
	else
		append_text(&statement, content + offset, (int) slice);
	appendBinaryStringInfo(&statement, VARDATA_ANY(tail),
						   VARSIZE_ANY_EXHDR(tail));
	SET_VARSIZE(statement.data, statement.len);
	SPI_cursor_close(portal);
	(void) DirectFunctionCall3(courier_remote_send, PG_GETARG_DATUM(0),
							   PointerGetDatum(statement.data),
							   PG_GETARG_DATUM(8));
	SPI_finish();

	nulls[0] = offset + slice >= length;
	values[0] = Int64GetDatum(offset + slice);
	values[1] = BoolGetDatum(binary);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
