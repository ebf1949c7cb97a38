/*
 * capture.c
 *	  The trigger that captures rows, and courier.enqueue_…().
 */
#include "pg_courier.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(courier_capture_row);
PG_FUNCTION_INFO_V1(courier_enqueue_event);
PG_FUNCTION_INFO_V1(courier_enqueue_row);
PG_FUNCTION_INFO_V1(courier_enqueue_key);

static void
require_row_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pg_courier's capture functions can only be called as triggers"),
				 errhint("Add the table with courier.replication_set_add_table().")));
	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" is not what pg_courier creates",
						trigger->tg_trigger->tgname,
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Drop it; courier.replication_set_add_table() creates the right one.")));
}

/* Captures a row that was inserted (no old row), changed, or deleted (no new). */
void
courier_capture_change(Relation rel, TupleTableSlot *old_row,
					   TupleTableSlot *new_row)
{
	CourierRelation *relation = courier_relation_lookup(rel);

	courier_shape_mention(relation);
	if (old_row != NULL)
		slot_getallattrs(old_row);
	if (new_row != NULL)
		slot_getallattrs(new_row);
	if (unlikely(relation->nfilters > 0))
		courier_filters_apply(relation, old_row, new_row);

	if (old_row == NULL)
		courier_write_insert(relation, new_row->tts_values,
							 new_row->tts_isnull, 'I');
	else if (new_row == NULL)
		courier_write_delete(relation, old_row->tts_values,
							 old_row->tts_isnull);
	else
		courier_write_update(relation,
							 old_row->tts_values, old_row->tts_isnull,
							 new_row->tts_values, new_row->tts_isnull);
}

/* AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW */
Datum
courier_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleTableSlot *old_row;
	TupleTableSlot *new_row = NULL;

	require_row_trigger(fcinfo);
	old_row = trigger->tg_trigslot;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		new_row = old_row;
		old_row = NULL;
	}
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		new_row = trigger->tg_newslot;

	if (likely(courier_order_take(trigger->tg_relation, old_row, new_row)))
		courier_capture_change(trigger->tg_relation, old_row, new_row);
	return PointerGetDatum(NULL);
}

/* courier.enqueue(channel text, payload text) */
Datum
courier_enqueue_event(PG_FUNCTION_ARGS)
{
	char	   *channel;
	text	   *payload;

	PreventCommandIfReadOnly("courier.enqueue()");
	PreventCommandDuringRecovery("courier.enqueue()");
	if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the channel of an event must not be empty")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the payload of an event must not be null"),
				 errhint("Use an empty string for an event without a payload.")));

	channel = text_to_cstring(PG_GETARG_TEXT_PP(0));
	payload = PG_GETARG_TEXT_PP(1);
	courier_write_event(channel, VARDATA_ANY(payload),
						VARSIZE_ANY_EXHDR(payload));
	PG_RETURN_VOID();
}

/*
 * Opens a table of which a row is to be shipped again, with the lock of a
 * writer, so that it waits for new row filters as writers do.
 */
static Relation
open_enqueued(Oid relid)
{
	PreventCommandIfReadOnly("courier.enqueue_upsert() or enqueue_delete()");
	PreventCommandDuringRecovery("courier.enqueue_upsert() or enqueue_delete()");
	return relation_open(relid, RowExclusiveLock);
}

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static CourierRelation *
require_key(Relation rel)
{
	CourierRelation *relation = courier_relation_lookup(rel);

	if (!relation->has_key)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of table %s can't be shipped again, because it has no key",
						qualified_name(rel)),
				 errhint("Add a primary key to the table.")));
	courier_shape_mention(relation);
	return relation;
}

/*
 * A row as it is, for those who may have another, or should not have it at
 * all: an update of nothing, which the row filters may make a delete of, and
 * an upsert.
 */
static void
write_again(CourierRelation *relation, HeapTuple tuple, TupleDesc desc,
			Datum *values, bool *nulls, bool upsert_only)
{
	if (relation->nfilters > 0)
	{
		TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);

		ExecStoreHeapTuple(tuple, slot, false);
		courier_filters_apply(relation, NULL, slot);
		if (!upsert_only)
		{
			courier_filters_assume_old(relation);
			courier_write_update(relation, values, nulls, values, nulls);
			courier_filters_apply(relation, NULL, slot);
		}
		ExecDropSingleTupleTableSlot(slot);
	}
	courier_write_insert(relation, values, nulls, 'V');
}

/*
 * courier.enqueue_row(relation regclass, kind "char", r anyelement): ships a
 * row again, as an upsert (V), a delete (D), or as an upsert for those whose
 * row filters let it in and a delete for the others (R).  The SQL functions
 * over it have checked that the relation is in a replication set.
 */
Datum
courier_enqueue_row(PG_FUNCTION_ARGS)
{
	char		kind = PG_GETARG_CHAR(1);
	Oid			argument_type = get_fn_expr_argtype(fcinfo->flinfo, 2);
	Relation	rel = open_enqueued(PG_GETARG_OID(0));
	TupleDesc	desc = RelationGetDescr(rel);
	HeapTupleHeader row;
	HeapTupleData tuple;
	CourierRelation *relation;
	Datum	   *values;
	bool	   *nulls;

	if (argument_type != rel->rd_rel->reltype)
	{
		char	   *name = qualified_name(rel);

		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the row given is of type %s, not a row of table %s",
						format_type_be(argument_type), name),
				 errhint("Pass whole rows, as in SELECT courier.enqueue_upsert('%s', t) FROM %s t.",
						 name, name)));
	}
	relation = require_key(rel);
	courier_order_now();

	row = PG_GETARG_HEAPTUPLEHEADER(2);
	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(&tuple, desc, values, nulls);

	if (kind == 'D')
	{
		/* what is to go may be there by mistake, whatever the filters say */
		courier_filters_pass_old(relation);
		courier_write_delete(relation, values, nulls);
	}
	else
		write_again(relation, &tuple, desc, values, nulls, kind == 'V');

	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* The texts of an array that has no nulls. */
static int
array_texts(ArrayType *array, char ***texts)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	*texts = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a key must not be null")));
		(*texts)[i] = TextDatumGetCString(elements[i]);
	}
	return count;
}

/*
 * courier.enqueue_key(relation regclass, columns text[], key text[]): deletes
 * a row of which only the key is known.
 */
Datum
courier_enqueue_key(PG_FUNCTION_ARGS)
{
	Relation	rel = open_enqueued(PG_GETARG_OID(0));
	TupleDesc	desc = RelationGetDescr(rel);
	CourierRelation *relation = require_key(rel);
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	char	  **names;
	char	  **texts;
	int			count = array_texts(PG_GETARG_ARRAYTYPE_P(1), &names);

	if (array_texts(PG_GETARG_ARRAYTYPE_P(2), &texts) != count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the key has not as many values as columns")));
	memset(nulls, true, desc->natts * sizeof(bool));
	for (int i = 0; i < count; i++)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), names[i]);
		Form_pg_attribute att;
		Oid			input;
		Oid			param;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table %s does not exist",
							names[i], qualified_name(rel))));
		att = TupleDescAttr(desc, attnum - 1);
		getTypeInputInfo(att->atttypid, &input, &param);
		values[attnum - 1] = OidInputFunctionCall(input, texts[i], param,
												  att->atttypmod);
		nulls[attnum - 1] = false;
	}
	courier_order_now();
	courier_filters_pass_old(relation);
	courier_write_delete(relation, values, nulls);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}
