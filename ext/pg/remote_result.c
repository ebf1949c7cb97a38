/*
 * remote_result.c
 *	  Fetches what a node answered to a command string.
 *
 * dblink raises a node's error as one of this session, so each result is
 * fetched in a subtransaction, and the error kept as a value.  Results are
 * collected in the link, so a wait may end between two of them and go on
 * later.
 */
#include "remote.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* The schema dblink was installed into, looked up once. */
const char *
courier_dblink_schema(void)
{
	static char *schema = NULL;
	bool		isnull;

	if (schema != NULL && OidIsValid(get_namespace_oid(schema, true)))
		return schema;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT n.nspname::pg_catalog.text"
					" FROM pg_catalog.pg_extension e"
					" JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
					" WHERE e.extname = 'dblink'", true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the extension dblink is not installed in this database"),
				 errhint("Run CREATE EXTENSION dblink.")));
	schema = MemoryContextStrdup(TopMemoryContext,
								 TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[0],
																   SPI_tuptable->tupdesc,
																   1, &isnull)));
	SPI_finish();
	return schema;
}

/* One of dblink's functions, all of whose arguments are text. */
Oid
courier_dblink_function(const char *name, int nargs)
{
	Oid			types[] = {TEXTOID, TEXTOID};

	return LookupFuncName(list_make2(makeString(pstrdup(courier_dblink_schema())),
									 makeString(pstrdup(name))),
						  nargs, types, false);
}

/* The plan that fetches a result of one column; SPI must be connected. */
SPIPlanPtr
courier_result_plan(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	char	   *sql;

	if (plan != NULL)
		return plan;
	sql = psprintf("SELECT r FROM %s.dblink_get_result($1) AS t(r pg_catalog.text)",
				   quote_identifier(courier_dblink_schema()));
	plan = SPI_prepare(sql, 1, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare the fetch of a remote result");
	SPI_keepplan(plan);
	return plan;
}

void
courier_outcome_reset(RemoteLink *link)
{
	memset(&link->outcome, 0, sizeof(link->outcome));
	MemoryContextReset(link->context);
}

/* The count at the end of a command tag ("INSERT 0 5") or the value itself. */
static int64
reported_count(const char *text)
{
	const char *last = strrchr(text, ' ');

	return strtoll(last == NULL ? text : last + 1, NULL, 10);
}

/* A RemoteTake for results of one column. */
void
courier_outcome_take(RemoteLink *link, void *arg)
{
	RemoteOutcome *outcome = &link->outcome;
	char	   *text = SPI_getvalue(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 1);

	if (outcome->completed == outcome->max_counts)
	{
		outcome->max_counts = Max(outcome->max_counts * 2, 16);
		outcome->counts = outcome->counts == NULL ?
			palloc(sizeof(Datum) * outcome->max_counts) :
			repalloc(outcome->counts, sizeof(Datum) * outcome->max_counts);
	}
	outcome->counts[outcome->completed++] =
		Int64GetDatum(text == NULL ? 0 : reported_count(text));
	if (outcome->value != NULL)
		pfree(outcome->value);
	outcome->value = text;
}

/*
 * Fetches one result.  Returns false behind the last; a node's error is left
 * in the link's outcome.
 */
bool
courier_fetch_result(RemoteLink *link, SPIPlanPtr plan, Datum connection,
					 RemoteTake take, void *arg)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	uint32		holdoff = InterruptHoldoffCount;
	volatile bool more = true;

	/* a local cancel must not be taken for a remote error */
	HOLD_INTERRUPTS();
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		if (SPI_execute_plan(plan, &connection, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not fetch a result from dblink");
		MemoryContextSwitchTo(link->context);
		if (SPI_processed == 0)
			more = false;
		else
			take(link, arg);
		SPI_freetuptable(SPI_tuptable);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(link->context);
		if (link->outcome.error == NULL)
			link->outcome.error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	CurrentResourceOwner = owner;

	/* not RESUME_INTERRUPTS(): an error has set the count to zero already */
	InterruptHoldoffCount = holdoff;
	return more;
}
