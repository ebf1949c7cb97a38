/*
 * stream_row.h
 *	  Rows as the two formats of COPY have them; see stream_row.c.
 */
#ifndef COURIER_STREAM_ROW_H
#define COURIER_STREAM_ROW_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* How a column's values are written. */
typedef enum StreamedForm
{
	STREAM_TEXT,				/* text format, with escapes */
	STREAM_PLAIN_TEXT,			/* text format, needs none */
	STREAM_NUMBER,				/* binary: its bytes, the highest first */
	STREAM_BYTES,				/* binary: a varlena's bytes as they are */
	STREAM_JSONB,				/* binary: a version and the text */
	STREAM_SENT					/* binary: by the type's send function */
} StreamedForm;

typedef struct StreamedColumn
{
	StreamedForm form;
	int16		length;
	FmgrInfo	function;
} StreamedColumn;

extern StreamedColumn *courier_stream_columns(TupleDesc desc, bool binary);
extern void courier_append_copy_header(StringInfo buffer);
extern void courier_append_copied(StringInfo buffer, StreamedColumn *columns,
								  int natts, Datum *values, bool *nulls,
								  bool binary);

#endif							/* COURIER_STREAM_ROW_H */
