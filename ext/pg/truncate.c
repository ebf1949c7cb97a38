/*
 * truncate.c
 *	  Captures TRUNCATE.
 *
 * A statement may name several tables, and CASCADE adds more.  Tables that
 * refer to each other can only be truncated together, so the statement must
 * arrive as one.  PostgreSQL fires all BEFORE STATEMENT triggers of its
 * tables, empties them, and then fires their AFTER STATEMENT triggers.  Our
 * BEFORE triggers note the tables; the first of our AFTER triggers captures
 * them all, and the others find it done.  Were each captured by a trigger of
 * its own, what a user's AFTER trigger of one table writes would come between
 * them, or into a table that is emptied here only after it.
 *
 * Nothing tells a trigger that RESTART IDENTITY was said, but it gives the
 * sequences a new file.  So their files are noted as well, and compared.
 *
 * A truncated partition, of a partitioned table that is captured, becomes "the
 * rows of the root for which this condition holds are gone", whose condition is
 * the partition's constraint.  That holds on a target with other partitions,
 * or none.
 *
 * Notes are told apart by trigger depth, since a trigger may truncate other
 * tables, and by subtransaction, since an error leaves notes behind.
 */
#include "pg_courier.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "replication/logicalproto.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(courier_capture_truncate);

/* Options of a Truncate message; the first two are pgoutput's. */
#define TRUNCATE_RESTART 2
#define TRUNCATE_CONDITION 4	/* followed by a condition on rows */

/* A table that a statement is about to truncate. */
typedef struct TruncatedTable
{
	Oid			relid;
	int			depth;			/* of triggers */
	SubTransactionId subxact;
	bool		captured;
	List	   *sequences;		/* OIDs of those that its columns own */
	List	   *files;			/* their relfilenodes before */
} TruncatedTable;

static List *noted = NIL;		/* in TopTransactionContext of noted_by */
static FullTransactionId noted_by;

static uint32
file_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint32		file;

	if (!HeapTupleIsValid(tuple))
		return 0;
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/* Of the same statement as the trigger that is running? */
static bool
is_current(const TruncatedTable *table)
{
	return table->depth == trigger_depth() &&
		table->subxact == GetCurrentSubTransactionId();
}

/*
 * Forgets notes of other transactions, and those of statements that have
 * ended: at our depth or deeper, and captured, if nothing was left behind.
 */
static void
forget_ended(void)
{
	FullTransactionId current = GetTopFullTransactionId();
	ListCell   *lc;

	if (!FullTransactionIdEquals(current, noted_by))
		noted = NIL;			/* its memory has gone with its transaction */
	noted_by = current;

	foreach(lc, noted)
	{
		TruncatedTable *table = lfirst(lc);

		if (table->depth > trigger_depth() ||
			(table->depth == trigger_depth() &&
			 (table->captured ||
			  table->subxact != GetCurrentSubTransactionId())))
			noted = foreach_delete_current(noted, lc);
	}
}

/*
 * Will our AFTER trigger of the table fire?  If somebody has disabled it the
 * table must not be noted: it would be taken for one of the next statement.
 */
static bool
will_be_captured(TriggerData *trigger)
{
	TriggerDesc *desc = trigger->tg_relation->trigdesc;
	bool		replica = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;

	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *other = &desc->triggers[i];

		if (other->tgfoid == trigger->tg_trigger->tgfoid &&
			TRIGGER_TYPE_MATCHES(other->tgtype, TRIGGER_TYPE_STATEMENT,
								 TRIGGER_TYPE_AFTER, TRIGGER_TYPE_TRUNCATE) &&
			(other->tgenabled == TRIGGER_FIRES_ALWAYS ||
			 other->tgenabled == (replica ? TRIGGER_FIRES_ON_REPLICA :
								  TRIGGER_FIRES_ON_ORIGIN)))
			return true;
	}
	return false;
}

/* BEFORE TRUNCATE: the table is still full, and everything is locked. */
static void
note_table(Relation rel)
{
	MemoryContext old_context;
	TruncatedTable *table;
	ListCell   *lc;

	forget_ended();
	old_context = MemoryContextSwitchTo(TopTransactionContext);
	table = palloc0(sizeof(TruncatedTable));
	table->relid = RelationGetRelid(rel);
	table->depth = trigger_depth();
	table->subxact = GetCurrentSubTransactionId();
	table->sequences = getOwnedSequences(table->relid);
	foreach(lc, table->sequences)
		table->files = lappend_oid(table->files, file_of(lfirst_oid(lc)));
	noted = lappend(noted, table);
	MemoryContextSwitchTo(old_context);
}

/* Does one of the table's sequences have another file than before? */
static bool
was_restarted(const TruncatedTable *table)
{
	ListCell   *sequence;
	ListCell   *file;

	forboth(sequence, table->sequences, file, table->files)
		if (file_of(lfirst_oid(sequence)) != lfirst_oid(file))
			return true;
	return false;
}

/* Is a table that contains this partition truncated by the same statement? */
static bool
goes_with_ancestor(Oid relid, List *tables)
{
	ListCell   *lc;

	if (!get_rel_relispartition(relid))
		return false;
	foreach(lc, get_partition_ancestors(relid))
	{
		ListCell   *other;

		foreach(other, tables)
			if (((TruncatedTable *) lfirst(other))->relid == lfirst_oid(lc))
				return true;
	}
	return false;
}

/*
 * The constraint of a hash partition names its parent by OID; another database
 * must find it by name.
 */
static char *
name_hash_parents(const char *condition)
{
	static const char call[] = "satisfies_hash_partition('";
	static const char cast[] = "'::oid";
	StringInfoData text;
	const char *at;

	initStringInfo(&text);
	while ((at = strstr(condition, call)) != NULL)
	{
		char	   *end;
		Oid			parent = (Oid) strtoul(at + strlen(call), &end, 10);
		char	   *name = get_rel_name(parent);

		if (strncmp(end, cast, strlen(cast)) != 0 || name == NULL)
			break;
		name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(parent)),
										  name);
		appendBinaryStringInfo(&text, condition,
							   at - condition + strlen(call) - 1);
		appendStringInfo(&text, "%s::pg_catalog.regclass::pg_catalog.oid",
						 quote_literal_cstr(name));
		condition = end + strlen(cast);
	}
	appendStringInfoString(&text, condition);
	return text.data;
}

/* The condition that holds for a partition's rows, and for no others. */
static char *
partition_condition(Oid relid)
{
	Expr	   *constraint = get_partition_qual_relid(relid);
	char	   *text;
	int			nest;

	if (constraint == NULL)
		return "true";			/* the default partition, and the only one */
	nest = NewGUCNestLevel();
	/* as message.c has values written */
	courier_set_guc("search_path", "pg_catalog");
	courier_set_guc("DateStyle", "ISO");
	courier_set_guc("IntervalStyle", "postgres");
	courier_set_guc("TimeZone", "UTC");
	courier_set_guc("extra_float_digits", "1");
	courier_set_guc("bytea_output", "hex");
	courier_set_guc("lc_monetary", "C");
	text = deparse_expression((Node *) constraint,
							  deparse_context_for(get_rel_name(relid), relid),
							  false, false);
	AtEOXact_GUC(true, nest);
	return name_hash_parents(text);
}

static void
write_truncate(List *shapes, int options, const char *condition)
{
	ListCell   *lc;

	courier_order_now();
	courier_message_begin();
	courier_put_byte(LOGICAL_REP_MSG_TRUNCATE);
	courier_put_int32(list_length(shapes));
	courier_put_byte(options);
	foreach(lc, shapes)
		courier_put_int32((int32) lfirst_oid(lc));
	if (condition != NULL)
	{
		courier_put_int32((int32) strlen(condition));
		courier_put_bytes(condition, strlen(condition));
	}
	courier_message_end();
}

/* Captures what one statement has truncated. */
static void
capture_tables(List *tables)
{
	List	   *shapes = NIL;
	int			options = 0;
	ListCell   *lc;

	foreach(lc, tables)
	{
		TruncatedTable *table = lfirst(lc);
		Relation	rel;
		CourierRelation *relation;

		table->captured = true;
		if (goes_with_ancestor(table->relid, tables))
			continue;
		rel = table_open(table->relid, NoLock); /* locked by the statement */
		relation = courier_relation_lookup(rel);
		courier_shape_mention(relation);
		if (relation->published != table->relid)
			write_truncate(list_make1_oid(relation->shape), TRUNCATE_CONDITION,
						   partition_condition(table->relid));
		else
		{
			shapes = lappend_oid(shapes, relation->shape);
			if (was_restarted(table))
				options |= TRUNCATE_RESTART;
		}
		table_close(rel, NoLock);
	}
	if (shapes != NIL)
		write_truncate(shapes, options, NULL);
}

/* AFTER TRUNCATE, of one of the statement's tables. */
static void
capture_statement(Relation rel)
{
	List	   *tables = NIL;
	bool		found = false;
	ListCell   *lc;

	if (!FullTransactionIdEquals(GetTopFullTransactionId(), noted_by))
		noted = NIL;
	foreach(lc, noted)
	{
		TruncatedTable *table = lfirst(lc);

		if (!is_current(table))
			continue;
		if (table->relid == RelationGetRelid(rel))
		{
			if (table->captured)
				return;
			found = true;
		}
		if (!table->captured)
			tables = lappend(tables, table);
	}
	if (!found)
	{
		/* somebody has disabled our other trigger */
		TruncatedTable *table = palloc0(sizeof(TruncatedTable));

		table->relid = RelationGetRelid(rel);
		tables = list_make1(table);
	}
	capture_tables(tables);
}

/* BEFORE and AFTER TRUNCATE FOR EACH STATEMENT */
Datum
courier_capture_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pg_courier's capture functions can only be called as triggers"),
				 errhint("Add the table with courier.replication_set_add_table().")));
	if (!TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" is not what pg_courier creates",
						trigger->tg_trigger->tgname,
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Drop it; courier.replication_set_add_table() creates the right one.")));
	if (TRIGGER_FIRED_AFTER(trigger->tg_event))
		capture_statement(trigger->tg_relation);
	else if (will_be_captured(trigger))
		note_table(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
