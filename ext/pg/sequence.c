/*
 * sequence.c
 *	  Reads sequences for the shipper.
 *
 * Shipping reads the sequences of a subscription once for every interval, so
 * this must be cheap and must never wait: a sequence that somebody has locked
 * exclusively (a TRUNCATE … RESTART IDENTITY that is not committed) is passed
 * over.  Its lock is given back at once, so that a session that ships inside a
 * long transaction holds up nobody.
 */
#include "pg_courier.h"

#include "access/relation.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(courier_read_sequences);

/* Counts sequences that were created, altered or dropped, as far as known. */
static int64 definitions = 1;

static void
syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	definitions++;
}

/* Reads last_value and is_called; false if that would have to wait. */
static bool
read_sequence(Oid relid, int64 *last_value, bool *is_called)
{
	Relation	rel;
	bool		found = false;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel != NULL)
	{
		if (rel->rd_rel->relkind == RELKIND_SEQUENCE)
		{
			Buffer		buffer = ReadBuffer(rel, 0);
			Page		page;
			HeapTupleHeader tuple;
			Form_pg_sequence_data data;

			LockBuffer(buffer, BUFFER_LOCK_SHARE);
			page = BufferGetPage(buffer);
			tuple = (HeapTupleHeader)
				PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
			data = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);
			*last_value = data->last_value;
			*is_called = data->is_called;
			UnlockReleaseBuffer(buffer);
			found = true;
		}
		relation_close(rel, NoLock);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return found;
}

/*
 * courier.read_sequences(relations oid[]) → int8[]: a number that changes when
 * a sequence is created, altered or dropped, then last_value and is_called
 * (0 or 1) of each, NULL and NULL if it can't be read now.
 */
Datum
courier_read_sequences(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	ArrayType  *given = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *relids;
	bool	   *relid_nulls;
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			length;
	int			lower = 1;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(SEQRELID, syscache_callback, (Datum) 0);
		registered = true;
	}
	AcceptInvalidationMessages();

	deconstruct_array(given, OIDOID, sizeof(Oid), true, TYPALIGN_INT,
					  &relids, &relid_nulls, &count);
	length = 1 + 2 * count;
	values = palloc0(sizeof(Datum) * length);
	nulls = palloc0(sizeof(bool) * length);
	values[0] = Int64GetDatum(definitions);
	for (int i = 0; i < count; i++)
	{
		int64		last_value = 0;
		bool		is_called = false;
		bool		known;

		CHECK_FOR_INTERRUPTS();
		known = !relid_nulls[i] &&
			read_sequence(DatumGetObjectId(relids[i]), &last_value, &is_called);
		values[1 + 2 * i] = Int64GetDatum(last_value);
		values[2 + 2 * i] = Int64GetDatum(is_called ? 1 : 0);
		nulls[1 + 2 * i] = nulls[2 + 2 * i] = !known;
	}
	PG_RETURN_ARRAYTYPE_P(construct_md_array(values, nulls, 1, &length, &lower,
											 INT8OID, sizeof(int64),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
