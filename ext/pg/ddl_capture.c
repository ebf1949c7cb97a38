/*
 * ddl_capture.c
 *	  Event triggers that capture DDL on tables of sets with ddl => 'auto'.
 *
 * What a command did is known at its end (pg_event_trigger_ddl_commands()),
 * what it was at its start: its parse tree, which execution may scribble on.
 * So the start keeps a copy.  The command's text is then looked for in what
 * the client sent: the one statement there with the same parse tree.  The
 * client may send several statements at once; but one that runs inside a
 * function or a DO block is not found, and is refused rather than guessed.
 *
 * A dropped table is known at the start too: at the end nothing tells to
 * which table an index belonged, or a partition.
 *
 * The decisions are made in SQL, see sql/ddl_auto.sql.
 *
 * Commands nest: a default of a new column may call a function that runs
 * DDL.  Each is found again by the address of its tree.
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "tcop/cmdtag.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(courier_capture_ddl);

/* A command under way. */
typedef struct OpenCommand
{
	Node	   *parsetree;		/* to be compared by address only */
	Node	   *copy;
	List	   *objects;		/* OIDs that a DROP or ALTER TABLE names … */
	List	   *tables;			/* … and the table that each belongs to */
} OpenCommand;

static List *open_commands = NIL;	/* in TopTransactionContext */

/* The transaction has ended, and the memory with it. */
void
courier_ddl_end_transaction(void)
{
	open_commands = NIL;
}

/* ---- the start of a command ---- */

static void
note_object(OpenCommand *command, Oid object, Oid table)
{
	command->objects = lappend_oid(command->objects, object);
	command->tables = lappend_oid(command->tables, table);
}

/* Notes a relation with the table it belongs to and that one's ancestors. */
static void
note_relation(OpenCommand *command, RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	Oid			table = relid;
	char		kind;
	ListCell   *lc;

	if (!OidIsValid(relid))
		return;
	kind = get_rel_relkind(relid);
	if (kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX)
		table = IndexGetRelation(relid, true);
	else if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		return;
	if (!OidIsValid(table))
		return;
	note_object(command, relid, table);
	if (get_rel_relispartition(table))
		foreach(lc, get_partition_ancestors(table))
			note_object(command, relid, lfirst_oid(lc));
}

static void
note_objects(OpenCommand *command)
{
	Node	   *stmt = command->copy;
	ListCell   *lc;

	if (IsA(stmt, AlterTableStmt))
		note_relation(command, ((AlterTableStmt *) stmt)->relation);
	else if (IsA(stmt, IndexStmt))
		note_relation(command, ((IndexStmt *) stmt)->relation);
	else if (IsA(stmt, DropStmt))
	{
		DropStmt   *drop = (DropStmt *) stmt;

		if (drop->removeType == OBJECT_TABLE ||
			drop->removeType == OBJECT_INDEX)
			foreach(lc, drop->objects)
				note_relation(command, makeRangeVarFromNameList(lfirst(lc)));
	}
}

/* Does the command drop the extension, or dblink that it relies on? */
static bool
drops_extension(Node *stmt)
{
	DropStmt   *drop = (DropStmt *) stmt;
	ListCell   *lc;

	if (!IsA(stmt, DropStmt) || drop->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, drop->objects)
	{
		char	   *name = strVal(lfirst(lc));

		if (strcmp(name, "pg_courier") == 0 ||
			(strcmp(name, "dblink") == 0 && drop->behavior == DROP_CASCADE))
			return true;
	}
	return false;
}

/* Calls a function of the extension, which nobody else may call. */
static Datum
call_sql(const char *name, int nargs, const Oid *types, Datum *args,
		 bool *nulls, bool *isnull)
{
	List	   *qualified = list_make2(makeString(pstrdup(COURIER_SCHEMA)),
									   makeString(pstrdup(name)));
	Oid			function = LookupFuncName(qualified, nargs, types, false);
	FmgrInfo	info;
	LOCAL_FCINFO(fcinfo, 8);
	Datum		result;

	fmgr_info(function, &info);
	InitFunctionCallInfoData(*fcinfo, &info, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs; i++)
	{
		fcinfo->args[i].value = args[i];
		fcinfo->args[i].isnull = nulls[i];
	}
	result = FunctionCallInvoke(fcinfo);
	if (isnull != NULL)
		*isnull = fcinfo->isnull;
	return result;
}

static Datum
oid_array(List *oids)
{
	Datum	   *elements = palloc(sizeof(Datum) * (list_length(oids) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		elements[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(elements, n, OIDOID, sizeof(Oid),
										   true, TYPALIGN_INT));
}

/*
 * A command that runs in transactions of its own can't be captured: when it
 * ends, what is known of its start is gone.
 */
static void
refuse_concurrent(OpenCommand *command, const char *tag)
{
	Oid			types[] = {TEXTOID, OIDARRAYOID};
	Datum		args[2];
	bool		nulls[2] = {0};

	if (!courier_capture_ddl_enabled ||
		!courier_ddl_is_concurrent(command->copy))
		return;
	args[0] = CStringGetTextDatum(tag);
	args[1] = oid_array(command->tables);
	PushActiveSnapshot(GetLatestSnapshot());
	call_sql("refuse_concurrent_ddl", 2, types, args, nulls, NULL);
	PopActiveSnapshot();
}

/* A table that becomes a partition goes by the sets of the partitioned one. */
static void
prepare_attach(Node *stmt)
{
	AlterTableStmt *alter = (AlterTableStmt *) stmt;
	Oid			types[] = {OIDOID, OIDOID};
	bool		nulls[2] = {0};
	Datum		args[2];
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return;
	foreach(lc, alter->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		Oid			parent;
		Oid			partition;

		if (cmd->subtype != AT_AttachPartition)
			continue;
		parent = RangeVarGetRelid(alter->relation, NoLock, true);
		partition = RangeVarGetRelid(((PartitionCmd *) cmd->def)->name, NoLock,
									 true);
		if (get_rel_relkind(parent) != RELKIND_PARTITIONED_TABLE ||
			!OidIsValid(partition) ||
			!courier_is_owner(RelationRelationId, parent) ||
			!courier_is_owner(RelationRelationId, partition))
			continue;			/* and the command will be refused */
		args[0] = ObjectIdGetDatum(parent);
		args[1] = ObjectIdGetDatum(partition);
		PushActiveSnapshot(GetLatestSnapshot());
		call_sql("before_attach_partition", 2, types, args, nulls, NULL);
		PopActiveSnapshot();
	}
}

static void
command_begins(Node *parsetree, const char *tag)
{
	MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);
	OpenCommand *command = palloc0(sizeof(OpenCommand));

	command->parsetree = parsetree;
	command->copy = copyObject(parsetree);
	note_objects(command);
	open_commands = lcons(command, open_commands);
	MemoryContextSwitchTo(old_context);

	refuse_concurrent(command, tag);
	prepare_attach(command->copy);
	if (drops_extension(parsetree))
		call_sql("before_drop_extension", 0, NULL, NULL, NULL, NULL);
}

/* The innermost command of this tree; an older one may have had its address. */
static OpenCommand *
find_command(Node *parsetree)
{
	ListCell   *lc;

	foreach(lc, open_commands)
	{
		OpenCommand *command = lfirst(lc);

		if (command->parsetree == parsetree)
			return command;
	}
	return NULL;
}

/* ---- the end of a command ---- */

/*
 * The text of the command in what the client has sent, or NULL if it is not
 * a statement of that.
 */
static char *
find_text(Node *tree)
{
	ListCell   *lc;

	if (debug_query_string == NULL)
		return NULL;
	foreach(lc, pg_parse_query(debug_query_string))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (equal(raw->stmt, tree))
		{
			const char *start = debug_query_string + raw->stmt_location;

			return raw->stmt_len > 0 ?
				pnstrdup(start, raw->stmt_len) : pstrdup(start);
		}
	}
	return NULL;
}

/* The tables that GRANT or REVOKE names, or the one that is attached. */
static List *
mentioned_tables(Node *stmt)
{
	List	   *found = NIL;
	ListCell   *lc;

	if (IsA(stmt, GrantStmt))
	{
		GrantStmt  *grant = (GrantStmt *) stmt;

		if (grant->targtype == ACL_TARGET_OBJECT &&
			grant->objtype == OBJECT_TABLE)
			foreach(lc, grant->objects)
				found = list_append_unique_oid(found,
											   RangeVarGetRelid(lfirst_node(RangeVar, lc),
																NoLock, true));
	}
	else if (IsA(stmt, AlterTableStmt))
		foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		{
			AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

			if (cmd->subtype == AT_AttachPartition)
				found = lappend_oid(found,
									RangeVarGetRelid(((PartitionCmd *) cmd->def)->name,
													 NoLock, true));
		}
	return found;
}

/* The schemas of GRANT … ON ALL TABLES IN SCHEMA. */
static Datum
mentioned_schemas(Node *stmt)
{
	Datum		elements[64];
	int			n = 0;
	ListCell   *lc;

	if (IsA(stmt, GrantStmt) &&
		((GrantStmt *) stmt)->targtype == ACL_TARGET_ALL_IN_SCHEMA &&
		((GrantStmt *) stmt)->objtype == OBJECT_TABLE)
		foreach(lc, ((GrantStmt *) stmt)->objects)
			if (n < (int) lengthof(elements))
				elements[n++] = CStringGetTextDatum(strVal(lfirst(lc)));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/*
 * Asks which sets want the command.  The configuration is read as it is now,
 * also in a REPEATABLE READ transaction that began before it was.
 */
static ArrayType *
ask_sets(Node *stmt, const char *tag)
{
	const char *column = courier_ddl_differing_column(stmt);
	Oid			types[] = {TEXTOID, OIDARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		args[4];
	bool		nulls[4] = {0};
	bool		isnull;
	Datum		result;

	args[0] = CStringGetTextDatum(tag);
	args[1] = oid_array(mentioned_tables(stmt));
	args[2] = mentioned_schemas(stmt);
	nulls[3] = column == NULL;
	args[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(column);
	PushActiveSnapshot(GetLatestSnapshot());
	result = call_sql("ddl_sets", 4, types, args, nulls, &isnull);
	PopActiveSnapshot();
	return isnull ? NULL : DatumGetArrayTypeP(result);
}

static void
refuse_nested(Node *stmt, const char *tag)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot be captured for the replication sets of its table, which replicate DDL",
					tag),
			 errdetail("Its text is not a statement of what the client sent: it runs inside a function or a DO block."),
			 errhint("Run it there with courier.replicate_ddl(), or as a statement of its own; or, for this database only, with courier.capture_ddl set to off.")));
}

/* ddl_command_end */
static void
command_ends(Node *stmt, const char *tag)
{
	ArrayType  *running = courier_ddl_running_sets();
	Oid			types[] = {TEXTARRAYOID};
	Datum		args[1];
	bool		nulls[1];

	if (running == NULL)
	{
		ArrayType  *sets = NULL;

		if (!courier_ddl_is_local(stmt))
			sets = ask_sets(stmt, tag);
		if (sets != NULL)
		{
			CourierDdlOrigin origin;
			const char *hint;
			const char *reason = courier_ddl_refusal(stmt, &hint);
			char	   *text;

			if (reason != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("%s cannot be captured for the replication sets of its table, which replicate DDL: %s",
								tag, reason),
						 errhint("%s", hint)));
			text = find_text(stmt);
			if (text == NULL)
				refuse_nested(stmt, tag);
			courier_ddl_note_origin(&origin);
			courier_write_ddl(&origin, sets, text, strlen(text));
		}
	}
	if (IsA(stmt, CreateStmt))
	{
		nulls[0] = running == NULL;
		args[0] = PointerGetDatum(running);
		call_sql("ddl_add_tables", 1, types, args, nulls, NULL);
	}
}

/*
 * sql_drop: the commands that drop the same on the nodes are made up by SQL,
 * one row of text[] each: the text and behind it the sets.
 */
static void
objects_dropped(OpenCommand *command, const char *tag)
{
	Oid			types[] = {TEXTOID, BOOLOID, OIDARRAYOID, OIDARRAYOID};
	Datum		args[4];
	bool		nulls[4] = {0};
	bool		isnull;
	Datum		result;
	Datum	   *elements;
	bool	   *absent;
	int			n;
	CourierDdlOrigin origin;

	args[0] = CStringGetTextDatum(tag);
	args[1] = BoolGetDatum(!IsA(command->copy, DropStmt) ||
						   ((DropStmt *) command->copy)->behavior == DROP_CASCADE);
	args[2] = oid_array(command->objects);
	args[3] = oid_array(command->tables);
	PushActiveSnapshot(GetLatestSnapshot());
	result = call_sql("ddl_drops", 4, types, args, nulls, &isnull);
	PopActiveSnapshot();
	if (isnull)
		return;

	/* pairs of a command and its sets, as text */
	deconstruct_array(DatumGetArrayTypeP(result), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &absent, &n);
	courier_ddl_note_origin(&origin);
	for (int i = 0; i + 1 < n; i += 2)
	{
		char	   *drop = TextDatumGetCString(elements[i]);
		ArrayType  *sets = DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN,
																   TextDatumGetCString(elements[i + 1]),
																   TEXTOID, -1));

		courier_write_ddl(&origin, sets, drop, strlen(drop));
	}
}

/* Event trigger of ddl_command_start, sql_drop and ddl_command_end. */
Datum
courier_capture_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	OpenCommand *command;
	const char *tag;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("courier.capture_ddl() can only be called as an event trigger"),
				 errhint("The extension makes the event triggers that call it.")));
	tag = GetCommandTagName(trigger->tag);
	if (strcmp(trigger->event, "ddl_command_start") == 0)
	{
		command_begins(trigger->parsetree, tag);
		PG_RETURN_NULL();
	}

	command = find_command(trigger->parsetree);
	if (command == NULL || !courier_capture_ddl_enabled)
		PG_RETURN_NULL();
	if (strcmp(trigger->event, "ddl_command_end") == 0)
	{
		open_commands = list_delete_ptr(open_commands, command);
		command_ends(command->copy, tag);
	}
	else if (courier_ddl_running_sets() == NULL)
		objects_dropped(command, tag);
	PG_RETURN_NULL();
}
