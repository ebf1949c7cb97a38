/*
 * tuple.c
 *	  Writes rows as tuples of pgoutput's messages.
 *
 * The caller has made the settings canonical that output functions depend on.
 */
#include "pg_courier.h"

#include "access/detoast.h"
#include "replication/logicalproto.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/*
 * Kinds of column values that pgoutput does not have: in the new row of an
 * update, a value or NULL that the update left as it was.
 */
#define COLUMN_SAME_TEXT 's'
#define COLUMN_SAME_NULL 'z'

/* From this size on, in bytes, a value is checked before it is written out. */
#define LARGE_VALUE ((Size) 32 * 1024 * 1024)

/* A value whose text is already known. */
static void
put_text(char kind, const char *text, Size length)
{
	courier_put_byte(kind);
	courier_put_int32((int32) length);
	courier_put_bytes(text, length);
}

/* An integer, written without calling through fmgr. */
static void
put_integer(char kind, CourierOutput output, Datum value)
{
	Size		start;
	char	   *digits;
	int			length = 0;

	courier_put_byte(kind);
	start = courier_put_tell();
	courier_put_int32(0);
	digits = courier_put_reserve(MAXINT8LEN + 1);
	switch (output)
	{
		case COURIER_OUTPUT_INT2:
			length = pg_itoa(DatumGetInt16(value), digits);
			break;
		case COURIER_OUTPUT_INT4:
			length = pg_ltoa(DatumGetInt32(value), digits);
			break;
		case COURIER_OUTPUT_INT8:
			length = pg_lltoa(DatumGetInt64(value), digits);
			break;
		default:
			elog(ERROR, "unexpected output kind %d", (int) output);
	}
	courier_put_advance(length);
	courier_put_int32_at(start, length);
}

/* How many characters a byte of a large value becomes, at least. */
static Size
expansion(CourierColumn *column)
{
	switch (column->output.fn_oid)
	{
		case F_BYTEAOUT:
			return 2;
		case F_BIT_OUT:
		case F_VARBIT_OUT:
			return BITS_PER_BYTE;
		default:
			return 1;
	}
}

static void
put_value(CourierColumn *column, Datum value, char kind)
{
	if (column->length == -1)
	{
		Size		size = toast_raw_datum_size(value);

		if (unlikely(size > LARGE_VALUE))
			courier_require_size((size - VARHDRSZ) * expansion(column));
	}
	switch (column->kind)
	{
		case COURIER_OUTPUT_INT2:
		case COURIER_OUTPUT_INT4:
		case COURIER_OUTPUT_INT8:
			put_integer(kind, column->kind, value);
			break;

		case COURIER_OUTPUT_VARLENA:
			{
				struct varlena *text = PG_DETOAST_DATUM_PACKED(value);

				put_text(kind, VARDATA_ANY(text),
						 VARSIZE_ANY_EXHDR(text));
				if ((Pointer) text != DatumGetPointer(value))
					pfree(text);
				break;
			}

		case COURIER_OUTPUT_FUNCTION:
			{
				char	   *text = OutputFunctionCall(&column->output, value);

				put_text(kind, text, strlen(text));
				pfree(text);
				break;
			}
	}
}

/*
 * Is this value stored out of line, and is it the very value the old row
 * pointed to?  Then the target has it, and it need not be fetched.
 */
static bool
is_unchanged_toast(CourierColumn *column, Datum value, Datum old_value)
{
	struct varatt_external new_pointer;
	struct varatt_external old_pointer;

	if (column->length != -1 ||
		!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)) ||
		!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(old_value)))
		return false;

	VARATT_EXTERNAL_GET_POINTER(new_pointer, DatumGetPointer(value));
	VARATT_EXTERNAL_GET_POINTER(old_pointer, DatumGetPointer(old_value));
	return memcmp(&new_pointer, &old_pointer, sizeof(new_pointer)) == 0;
}

/*
 * Are these two values the same, as far as can be told from their bytes as they
 * are stored?  A wrong "no" costs the target a little work, nothing more.
 */
static bool
is_same(CourierColumn *column, Datum value, Datum old_value)
{
	Pointer		a = DatumGetPointer(value);
	Pointer		b = DatumGetPointer(old_value);

	if (column->by_value)
		return value == old_value;
	if (column->length > 0)
		return memcmp(a, b, column->length) == 0;
	if (column->length == -1)
		return !VARATT_IS_EXTERNAL(a) && !VARATT_IS_EXTERNAL(b) &&
			VARSIZE_ANY(a) == VARSIZE_ANY(b) &&
			memcmp(a, b, VARSIZE_ANY(a)) == 0;
	return strcmp(a, b) == 0;
}

/*
 * A tuple of all columns.  With the old row given, an out-of-line value that
 * the update left alone is written as 'u', and others it left alone are marked
 * as the same, so that the target need not set them.  What the row is found by
 * is always written plainly.  A row that moves into a row filter is written
 * whole: it is new to those who filter by it.
 */
void
courier_put_tuple(CourierRelation *relation, Datum *values, bool *nulls,
		  Datum *old_values, bool *old_nulls)
{
	courier_put_int16((int16) relation->ncolumns);
	for (int i = 0; i < relation->ncolumns; i++)
	{
		CourierColumn *column = &relation->columns[i];
		int			at = column->attnum - 1;
		bool		comparable = old_values != NULL &&
			old_nulls[at] == nulls[at] &&
			(!column->key || relation->whole_row);

		if (nulls[at])
			courier_put_byte(comparable ? COLUMN_SAME_NULL :
							 LOGICALREP_COLUMN_NULL);
		else if (comparable &&
				 is_unchanged_toast(column, values[at], old_values[at]))
		{
			if (unlikely(relation->moves_in))
				put_value(column, values[at], COLUMN_SAME_TEXT);
			else
				courier_put_byte(LOGICALREP_COLUMN_UNCHANGED);
		}
		else
			put_value(column, values[at],
					  comparable && is_same(column, values[at], old_values[at]) ?
					  COLUMN_SAME_TEXT : LOGICALREP_COLUMN_TEXT);
	}
}

/* A tuple in which only the replica identity's columns have their values. */
void
courier_put_key(CourierRelation *relation, Datum *values, bool *nulls)
{
	courier_put_int16((int16) relation->ncolumns);
	for (int i = 0; i < relation->ncolumns; i++)
	{
		CourierColumn *column = &relation->columns[i];
		int			at = column->attnum - 1;

		if (!column->key || nulls[at])
			courier_put_byte(LOGICALREP_COLUMN_NULL);
		else
			put_value(column, values[at], LOGICALREP_COLUMN_TEXT);
	}
}
