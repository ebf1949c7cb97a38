/*
 * row_filter.c
 *	  Row filters as SQL sees them: checking one and writing it out.
 *
 * A filter lives in pg_trigger, as the WHEN condition of a disabled trigger of
 * its table, which never fires.  So it follows renamed columns, is mapped to
 * the columns of each partition, can't lose a column or a type that it uses
 * unnoticed, and comes with the relcache entry that capture has open anyway;
 * row_filter_state.c evaluates it there.
 *
 * It is evaluated in sessions of users, by whom it was not written.  Therefore
 * it may only use what does nothing but compute a value: columns, constants,
 * and built-in operators and functions that are immutable, on types without
 * code of their own.
 */
#include "pg_courier.h"

#include "access/relation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"

PG_FUNCTION_INFO_V1(courier_row_filter);
PG_FUNCTION_INFO_V1(courier_check_row_filter);
PG_FUNCTION_INFO_V1(courier_row_filter_expression);

#define FILTER_HINT \
	"A row filter may use the table's columns, constants, and built-in operators and functions that are immutable."

/* What the parser is given, and what stands in it before the filter. */
#define FILTER_PREFIX "SELECT "

typedef struct FilterCheck
{
	TupleDesc	desc;
	char	   *reason;			/* why the filter is refused */
} FilterCheck;

/* The trigger function of a filter's trigger, should somebody enable it. */
Datum
courier_row_filter(PG_FUNCTION_ARGS)
{
	return PointerGetDatum(NULL);
}

/* ---- parsing ---- */

typedef struct FilterSource
{
	Relation	rel;
	const char *query;
} FilterSource;

/* Lets an error point into the filter, and say whose it is. */
static void
parse_error_context(void *arg)
{
	FilterSource *source = arg;
	int			position = geterrposition();

	if (position > (int) strlen(FILTER_PREFIX))
	{
		errposition(0);
		internalerrposition(position - strlen(FILTER_PREFIX));
		internalerrquery(source->query + strlen(FILTER_PREFIX));
	}
	errcontext("row filter of table %s",
			   RelationGetRelationName(source->rel));
}

static void
refuse_filter(Relation rel, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid row filter for table %s",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel))),
			 errdetail_internal("%s", reason),
			 errhint(FILTER_HINT)));
}

/* The one expression of the query, or NULL if it is anything else. */
static Node *
only_expression(List *statements)
{
	RawStmt    *raw;
	SelectStmt *select;
	ResTarget  *target;

	if (list_length(statements) != 1)
		return NULL;
	raw = linitial_node(RawStmt, statements);
	if (!IsA(raw->stmt, SelectStmt))
		return NULL;
	select = (SelectStmt *) raw->stmt;
	if (select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		select->distinctClause != NIL || select->intoClause != NULL ||
		select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL)
		return NULL;
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL)
		return NULL;
	/* a star is understood in a list of columns only */
	if (IsA(target->val, ColumnRef) &&
		IsA(llast(((ColumnRef *) target->val)->fields), A_Star))
		return NULL;
	return target->val;
}

/* ---- checking ---- */

/* A type that brings no code of its own along. */
static bool
is_plain_type(Oid type)
{
	Oid			element;

	type = getBaseType(type);
	if (type < FirstNormalObjectId || get_typtype(type) == TYPTYPE_ENUM)
		return true;
	element = get_element_type(type);
	return OidIsValid(element) && is_plain_type(element);
}

static bool
is_unsafe_function(Oid function, void *context)
{
	FilterCheck *check = context;

	if (function >= FirstNormalObjectId)
		check->reason = psprintf("Function %s is not built in.",
								 format_procedure(function));
	else if (func_volatile(function) != PROVOLATILE_IMMUTABLE)
		check->reason = psprintf("Function %s is not immutable: its result may depend on more than the row.",
								 format_procedure(function));
	return check->reason != NULL;
}

static char *
refuse_column(TupleDesc desc, AttrNumber attnum)
{
	Form_pg_attribute att;

	if (attnum < 0)
		return "System columns are not part of a row.";
	if (attnum == 0)
		return "Whole rows can't be used.";
	att = TupleDescAttr(desc, attnum - 1);
	if (att->attgenerated != '\0' &&
		att->attgenerated != ATTRIBUTE_GENERATED_STORED)
		return psprintf("Column \"%s\" is computed when it is read.",
						NameStr(att->attname));
	return NULL;
}

static Oid
operator_of(Node *node)
{
	switch (nodeTag(node))
	{
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			return ((OpExpr *) node)->opno;
		case T_ScalarArrayOpExpr:
			return ((ScalarArrayOpExpr *) node)->opno;
		default:
			return InvalidOid;
	}
}

/* Sets check->reason at the first node that is not allowed. */
static bool
check_walker(Node *node, void *context)
{
	FilterCheck *check = context;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_List:
			return expression_tree_walker(node, check_walker, context);

		case T_Var:
			check->reason = refuse_column(check->desc,
										  ((Var *) node)->varattno);
			break;

		case T_Const:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_RowCompareExpr:
		case T_FuncExpr:
		case T_BoolExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_CollateExpr:
		case T_CaseExpr:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_SubscriptingRef:
		case T_RowExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
			break;

		case T_SubLink:
			check->reason = "Subqueries can't be used.";
			break;

		case T_SQLValueFunction:
			check->reason = "CURRENT_USER, CURRENT_DATE and their like depend on more than the row.";
			break;

		case T_CoerceToDomain:
			check->reason = psprintf("A cast to domain %s would run its constraints.",
									 format_type_be(exprType(node)));
			break;

		default:
			check->reason = "It uses a construct that row filters don't support.";
			break;
	}
	if (check->reason != NULL)
		return true;
	if (!is_plain_type(exprType(node)))
	{
		check->reason = psprintf("Type %s is not built in.",
								 format_type_be(exprType(node)));
		return true;
	}
	if (operator_of(node) >= FirstNormalObjectId)
	{
		check->reason = psprintf("Operator %s is not built in.",
								 format_operator(operator_of(node)));
		return true;
	}
	if (check_functions_in_node(node, is_unsafe_function, context))
		return true;
	return expression_tree_walker(node, check_walker, context);
}

/* A filter's text as an expression on the table; raises why it can't be one. */
static Node *
parse_filter(Relation rel, const char *text)
{
	FilterSource source;
	ErrorContextCallback context;
	ParseState *pstate;
	ParseNamespaceItem *item;
	Node	   *node;
	FilterCheck check = {.desc = RelationGetDescr(rel)};

	source.rel = rel;
	source.query = psprintf(FILTER_PREFIX "%s", text);
	context.callback = parse_error_context;
	context.arg = &source;
	context.previous = error_context_stack;
	error_context_stack = &context;

	node = only_expression(raw_parser(source.query, RAW_PARSE_DEFAULT));
	if (node == NULL)
		refuse_filter(rel, "It is not one expression, as in a WHERE clause.");

	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = source.query;
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL,
										 false, false);
	addNSItemToQuery(pstate, item, false, true, true);
	node = transformExpr(pstate, node, EXPR_KIND_WHERE);
	node = coerce_to_boolean(pstate, node, "row_filter");
	assign_expr_collations(pstate, node);
	error_context_stack = context.previous;

	if (check_walker(node, &check))
		refuse_filter(rel, check.reason);
	free_parsestate(pstate);
	return node;
}

/* ---- writing out ---- */

/* An expression as text that means the same in every session. */
static char *
deparse_filter(Relation rel, Node *node, const char *alias)
{
	int			nest = NewGUCNestLevel();
	char	   *text;

	courier_set_guc("search_path", "pg_catalog");
	courier_set_guc("datestyle", "ISO");
	courier_set_guc("intervalstyle", "postgres");
	courier_set_guc("timezone", "UTC");
	courier_set_guc("extra_float_digits", "1");
	courier_set_guc("bytea_output", "hex");
	courier_set_guc("lc_monetary", "C");
	text = deparse_expression(node,
							  deparse_context_for(alias != NULL ? alias :
												  RelationGetRelationName(rel),
												  RelationGetRelid(rel)),
							  alias != NULL, false);
	AtEOXact_GUC(true, nest);
	return text;
}

/*
 * courier.check_row_filter(relation regclass, row_filter text, alias text):
 * the filter in its normal form, its columns as those of the alias if one is
 * given.
 */
Datum
courier_check_row_filter(PG_FUNCTION_ARGS)
{
	Relation	rel;
	char	   *alias;
	char	   *expression;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	alias = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	expression = deparse_filter(rel,
								parse_filter(rel, text_to_cstring(PG_GETARG_TEXT_PP(1))),
								alias);
	relation_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(expression));
}

/*
 * courier.row_filter_expression(relation regclass, filter_id int): a filter as
 * it is now, or NULL if the table does not have it.
 */
Datum
courier_row_filter_expression(PG_FUNCTION_ARGS)
{
	Relation	rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int32		id = PG_GETARG_INT32(1);
	char	   *expression = NULL;

	if (rel == NULL)
		PG_RETURN_NULL();
	if (rel->trigdesc != NULL)
		for (int i = 0; i < rel->trigdesc->numtriggers && expression == NULL; i++)
		{
			Trigger    *trigger = &rel->trigdesc->triggers[i];

			if (courier_filter_id(trigger) == id)
				expression = deparse_filter(rel, courier_filter_node(trigger), NULL);
		}
	relation_close(rel, AccessShareLock);
	if (expression == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(expression));
}
