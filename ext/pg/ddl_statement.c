/*
 * ddl_statement.c
 *	  Which statements can be replicated as DDL, judged by their parse trees.
 *
 * What cannot run inside a transaction block, what is not of this database
 * alone, and what bears a password is refused; so is everything that is not
 * DDL, as rows are captured by themselves and would arrive twice.
 */
#include "pg_courier.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#define IN_BLOCK "it cannot run inside a transaction block"
#define IN_BLOCK_HINT "Run it on this database and on each node by itself."
#define GLOBAL "it is not of this database alone"
#define GLOBAL_HINT "Run it once on each server."

/* Is an object of this type shared by the databases of a server? */
static bool
is_shared(ObjectType type)
{
	return type == OBJECT_DATABASE || type == OBJECT_ROLE ||
		type == OBJECT_TABLESPACE;
}

static bool
alters_concurrently(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_DetachPartitionFinalize)
			return true;
		if (cmd->subtype == AT_DetachPartition &&
			((PartitionCmd *) cmd->def)->concurrent)
			return true;
	}
	return false;
}

/* Does a statement run in transactions of its own? */
bool
courier_ddl_is_concurrent(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) stmt)->concurrent;
		case T_AlterTableStmt:
			return alters_concurrently((AlterTableStmt *) stmt);
		default:
			return false;
	}
}

/*
 * Why a statement cannot be replicated as DDL, with what to do instead; NULL
 * if it can.
 */
const char *
courier_ddl_refusal(Node *stmt, const char **hint)
{
	*hint = IN_BLOCK_HINT;
	switch (nodeTag(stmt))
	{
		case T_IndexStmt:
			if (((IndexStmt *) stmt)->concurrent)
			{
				*hint = "Leave CONCURRENTLY out, or create the index on this database and on each node by itself.";
				return IN_BLOCK;
			}
			return NULL;

		case T_DropStmt:
			if (((DropStmt *) stmt)->concurrent)
			{
				*hint = "Leave CONCURRENTLY out, or drop the index on this database and on each node by itself.";
				return IN_BLOCK;
			}
			return NULL;

		case T_AlterTableStmt:
			return alters_concurrently((AlterTableStmt *) stmt) ?
				IN_BLOCK : NULL;

		case T_VacuumStmt:
		case T_ReindexStmt:
		case T_ClusterStmt:
		case T_CheckPointStmt:
			*hint = "It is maintenance of one server; run it on each by itself.";
			return "it does not change a definition";

		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterSystemStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
			return IN_BLOCK;

		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_AlterTableMoveAllStmt:
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_GrantRoleStmt:
		case T_DropOwnedStmt:
		case T_ReassignOwnedStmt:
			*hint = GLOBAL_HINT;
			return GLOBAL;

		case T_RenameStmt:
			*hint = GLOBAL_HINT;
			return is_shared(((RenameStmt *) stmt)->renameType) ? GLOBAL : NULL;

		case T_AlterOwnerStmt:
			*hint = GLOBAL_HINT;
			return is_shared(((AlterOwnerStmt *) stmt)->objectType) ? GLOBAL : NULL;

		case T_CommentStmt:
			*hint = GLOBAL_HINT;
			return is_shared(((CommentStmt *) stmt)->objtype) ? GLOBAL : NULL;

		case T_GrantStmt:
			*hint = GLOBAL_HINT;
			return is_shared(((GrantStmt *) stmt)->objtype) ? GLOBAL : NULL;

		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
			*hint = "Run it on each database by itself.";
			return "it may bear a password, which the queue must not hold";

		case T_DropSubscriptionStmt:
			*hint = "Run it on each database by itself.";
			return IN_BLOCK;

		case T_CreateStmt:
			if (((CreateStmt *) stmt)->relation->relpersistence ==
				RELPERSISTENCE_TEMP)
			{
				*hint = "A temporary table is of one session only.";
				return "it creates a temporary table";
			}
			return NULL;

		case T_VariableSetStmt:
			*hint = "Use SET LOCAL.";
			return ((VariableSetStmt *) stmt)->is_local ?
				NULL : "its effect would outlast the command";

		case T_TransactionStmt:
			*hint = "The command is part of the transaction that calls the function.";
			return "it begins or ends a transaction";

		default:
			*hint = "Rows are captured by themselves, and would arrive twice. Give DDL as statements of its own, not inside DO or a function.";
			return GetCommandLogLevel(stmt) == LOGSTMT_DDL ?
				NULL : "it is not DDL";
	}
}

/* ---- values that each side would compute for itself ---- */

/* Does a function of this name, any of its variants, give a value of its own? */
static bool
function_differs(List *name)
{
	FuncCandidateList candidate;

	for (candidate = FuncnameGetCandidates(name, -1, NIL, false, false,
										   false, true);
		 candidate != NULL; candidate = candidate->next)
	{
		switch (candidate->oid)
		{
			case F_NOW:
			case F_TRANSACTION_TIMESTAMP:
			case F_STATEMENT_TIMESTAMP:
				return true;
			default:
				if (func_volatile(candidate->oid) == PROVOLATILE_VOLATILE)
					return true;
		}
	}
	return false;
}

static bool
expression_differs(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction))
		return ((SQLValueFunction *) node)->op <= SVFOP_LOCALTIMESTAMP_N;
	if (IsA(node, FuncCall) &&
		function_differs(((FuncCall *) node)->funcname))
		return true;
	return raw_expression_tree_walker(node, expression_differs, context);
}

static bool
is_serial(TypeName *type)
{
	static const char *const names[] = {
		"smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"
	};

	if (type == NULL || list_length(type->names) != 1)
		return false;
	for (int i = 0; i < (int) lengthof(names); i++)
		if (strcmp(strVal(linitial(type->names)), names[i]) == 0)
			return true;
	return false;
}

static bool
new_column_differs(ColumnDef *column)
{
	ListCell   *lc;

	if (is_serial(column->typeName))
		return true;
	foreach(lc, column->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_IDENTITY)
			return true;
		if (constraint->contype == CONSTR_DEFAULT &&
			expression_differs(constraint->raw_expr, NULL))
			return true;
	}
	return false;
}

/*
 * The column to which a statement gives values in rows that exist, if they
 * may be others on another server: no trigger fires for those rows.
 */
const char *
courier_ddl_differing_column(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return NULL;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_AddColumn &&
			new_column_differs((ColumnDef *) cmd->def))
			return ((ColumnDef *) cmd->def)->colname;
		if (cmd->subtype == AT_AlterColumnType &&
			expression_differs(((ColumnDef *) cmd->def)->raw_default, NULL))
			return cmd->name;
	}
	return NULL;
}

/*
 * Is all that an ALTER TABLE does about this server only: where its files
 * are, and who acts upon the rows here?
 */
bool
courier_ddl_is_local(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_EnableTrig:
			case AT_EnableAlwaysTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
			case AT_EnableTrigAll:
			case AT_DisableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigUser:
			case AT_EnableRule:
			case AT_EnableAlwaysRule:
			case AT_EnableReplicaRule:
			case AT_DisableRule:
			case AT_EnableRowSecurity:
			case AT_DisableRowSecurity:
			case AT_ForceRowSecurity:
			case AT_NoForceRowSecurity:
			case AT_ClusterOn:
			case AT_DropCluster:
			case AT_SetTableSpace:
			case AT_SetLogged:
			case AT_SetUnLogged:
				break;
			default:
				return false;
		}
	}
	return true;
}
