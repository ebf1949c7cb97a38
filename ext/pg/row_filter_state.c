/*
 * row_filter_state.c
 *	  Row filters in capture: which of a table's filters let a row in.
 *
 * Each filter is evaluated on the old and on the new row when a change is
 * captured, and the results go with the change.  So a filter sees the row
 * exactly as it was, all its columns included, and one evaluation serves all
 * subscriptions.
 *
 * The compiled filters belong to the relation's cache entry.  A change of the
 * filters is a change of the table's triggers, which invalidates it.
 */
#include "pg_courier.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* In a message: the filter lets the old row in, the new row in. */
#define FILTER_OLD_IN 1
#define FILTER_NEW_IN 2

struct CourierFilter
{
	int32		id;
	ExprState  *state;
	bool		old_in;			/* results for the change at hand */
	bool		new_in;
};

/* The number of the filter whose trigger this is, or 0. */
int32
courier_filter_id(const Trigger *trigger)
{
	const char *digits = trigger->tgname + strlen(COURIER_FILTER_TRIGGER);
	int64		id = 0;

	if (strncmp(trigger->tgname, COURIER_FILTER_TRIGGER,
				strlen(COURIER_FILTER_TRIGGER)) != 0 ||
		trigger->tgqual == NULL || *digits == '\0')
		return 0;
	for (; *digits >= '0' && *digits <= '9' && id <= PG_INT32_MAX; digits++)
		id = id * 10 + (*digits - '0');
	return *digits == '\0' && id <= PG_INT32_MAX ? (int32) id : 0;
}

/* Its condition, as an expression on the table's columns. */
Node *
courier_filter_node(const Trigger *trigger)
{
	Node	   *node = stringToNode(trigger->tgqual);

	ChangeVarNodes(node, PRS2_NEW_VARNO, 1, 0);
	return node;
}

/* Compiles the filters of a table into its cache entry. */
void
courier_filters_build(CourierRelation *entry, Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;
	MemoryContext old_context;

	if (triggers == NULL)
		return;
	old_context = MemoryContextSwitchTo(entry->context);
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		int32		id = courier_filter_id(&triggers->triggers[i]);
		Expr	   *expression;

		if (id == 0)
			continue;
		if (entry->filters == NULL)
		{
			entry->filters = palloc0(sizeof(CourierFilter) *
									 triggers->numtriggers);
			entry->filter_context = CreateStandaloneExprContext();
		}
		expression = expression_planner((Expr *) courier_filter_node(&triggers->triggers[i]));
		entry->filters[entry->nfilters].id = id;
		entry->filters[entry->nfilters].state =
			ExecInitQual(make_ands_implicit(expression), NULL);
		entry->nfilters++;
	}
	MemoryContextSwitchTo(old_context);
}

static void
filter_error_context(void *arg)
{
	CourierRelation *relation = arg;

	errcontext("row filter of table %s in a replication set of pg_courier",
			   get_rel_name(relation->relid));
}

static bool
lets_in(CourierRelation *relation, CourierFilter *filter, TupleTableSlot *row)
{
	if (row == NULL)
		return false;
	relation->filter_context->ecxt_scantuple = row;
	return ExecQual(filter->state, relation->filter_context);
}

/*
 * Evaluates the filters on the rows of a change, of which either may be NULL.
 * A filter that gives NULL does not let the row in.
 */
void
courier_filters_apply(CourierRelation *relation,
					  TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	ErrorContextCallback context;

	context.callback = filter_error_context;
	context.arg = relation;
	context.previous = error_context_stack;
	error_context_stack = &context;

	relation->moves_in = false;
	for (int i = 0; i < relation->nfilters; i++)
	{
		CourierFilter *filter = &relation->filters[i];

		filter->old_in = lets_in(relation, filter, old_row);
		filter->new_in = lets_in(relation, filter, new_row);
		if (old_row != NULL && filter->new_in && !filter->old_in)
			relation->moves_in = true;
		ResetExprContext(relation->filter_context);
	}
	relation->filter_context->ecxt_scantuple = NULL;
	error_context_stack = context.previous;
}

/* Lets every filter let the old row in: a delete asked for by hand. */
void
courier_filters_pass_old(CourierRelation *relation)
{
	for (int i = 0; i < relation->nfilters; i++)
	{
		relation->filters[i].old_in = true;
		relation->filters[i].new_in = false;
	}
	relation->moves_in = false;
}

/*
 * After courier_filters_apply() of a new row: lets every filter let an old one
 * in, which whoever filters may have by mistake.
 */
void
courier_filters_assume_old(CourierRelation *relation)
{
	for (int i = 0; i < relation->nfilters; i++)
		relation->filters[i].old_in = true;
	relation->moves_in = false;
}

/* The results for the change at hand; its message follows. */
void
courier_put_filter_results(CourierRelation *relation)
{
	courier_put_byte(COURIER_MSG_FILTERED);
	courier_put_int16((int16) relation->nfilters);
	for (int i = 0; i < relation->nfilters; i++)
	{
		CourierFilter *filter = &relation->filters[i];

		courier_put_int32(filter->id);
		courier_put_byte((filter->old_in ? FILTER_OLD_IN : 0) |
						 (filter->new_in ? FILTER_NEW_IN : 0));
	}
}
