/*
 * worker_hold.c
 *	  Keeps the workers out of the way.
 *
 * A database that somebody is connected to can't be dropped, renamed, moved
 * or used as a template, and a worker in the middle of a copy has locks that
 * DROP EXTENSION and ALTER EXTENSION wait for.  So before such a statement
 * its database is held, by whoever may execute it; its workers leave, and come
 * back when the transaction has ended, if the database and the extension are
 * still there.
 *
 * Here too the launcher is told of new databases and new extensions, at commit.
 */
#include "worker.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(courier_announce_extension);

/*
 * How long a worker may take to leave by itself, then by a signal, in
 * milliseconds.  The first is for the batch under way.  PostgreSQL waits five
 * more seconds for other sessions.
 */
#define LEAVE_BY_ITSELF 300
#define LEAVE_BY_SIGNAL 5000

/* A look at who is left, milliseconds. */
#define LOOK_INTERVAL 10

static ProcessUtility_hook_type next_hook = NULL;

/* Of this transaction. */
static List *held = NIL;		/* of database Oids, in TopMemoryContext */
static bool databases_changed = false;
static bool extension_created = false;

static void
signal_workers(CourierWorkerInfo *workers, int count)
{
	for (int i = 0; i < count; i++)
		if (kill(workers[i].pid, SIGTERM) != 0)
			elog(DEBUG1, "could not signal worker %d: %m", workers[i].pid);
}

/* Waits for the workers of a database to leave. */
static void
await_workers(Oid database)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		signalled = false;

	for (;;)
	{
		CourierWorkerInfo *workers;
		int			count = courier_workers_of(database, &workers);
		TimestampTz now = GetCurrentTimestamp();

		if (count == 0)
			break;
		if (TimestampDifferenceExceeds(start, now, LEAVE_BY_SIGNAL))
			break;				/* let PostgreSQL say who is in the way */
		if (!signalled && TimestampDifferenceExceeds(start, now, LEAVE_BY_ITSELF))
		{
			signal_workers(workers, count);
			signalled = true;
		}
		pfree(workers);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_INTERVAL, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Holds a database until the end of the transaction. */
static void
hold_database(Oid database)
{
	MemoryContext old_context;

	if (!OidIsValid(database))
		return;
	if (!list_member_oid(held, database))
	{
		old_context = MemoryContextSwitchTo(TopMemoryContext);
		held = lappend_oid(held, database);
		MemoryContextSwitchTo(old_context);
		if (!courier_hold(database))
		{
			held = list_delete_oid(held, database);
			return;
		}
	}
	await_workers(database);
}

static void
hold_own_database(const char *name)
{
	Oid			database = get_database_oid(name, true);

	if (OidIsValid(database) && courier_is_owner(DatabaseRelationId, database))
		hold_database(database);
}

/* The extension of this database is about to be altered or dropped. */
static void
hold_own_extension(void)
{
	Oid			extension = get_extension_oid("pg_courier", true);

	if (OidIsValid(extension) &&
		courier_is_owner(ExtensionRelationId, extension))
		hold_database(MyDatabaseId);
}

/* With dblink pg_courier would go too. */
static bool
is_ours(const char *extension)
{
	return strcmp(extension, "pg_courier") == 0 ||
		strcmp(extension, "dblink") == 0;
}

static void
before_statement(Node *statement)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			hold_own_database(((DropdbStmt *) statement)->dbname);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				hold_own_database(((RenameStmt *) statement)->subname);
			break;
		case T_AlterDatabaseStmt:
			if (((AlterDatabaseStmt *) statement)->options != NIL)
				hold_own_database(((AlterDatabaseStmt *) statement)->dbname);
			databases_changed = true;
			break;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = (DefElem *) lfirst(cell);

				if (strcmp(option->defname, "template") == 0 &&
					option->arg != NULL)
					hold_own_database(defGetString(option));
			}
			databases_changed = true;
			break;
		case T_DropStmt:
			if (((DropStmt *) statement)->removeType == OBJECT_EXTENSION)
				foreach(cell, ((DropStmt *) statement)->objects)
					if (is_ours(strVal(lfirst(cell))))
						hold_own_extension();
			break;
		case T_AlterExtensionStmt:
			if (is_ours(((AlterExtensionStmt *) statement)->extname))
				hold_own_extension();
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *completion)
{
	before_statement(pstmt->utilityStmt);
	if (next_hook)
		next_hook(pstmt, queryString, readOnlyTree, context, params,
				  queryEnv, dest, completion);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, completion);
}

static void
end_transaction(XactEvent event, void *arg)
{
	ListCell   *cell;
	bool		committed = event == XACT_EVENT_COMMIT;

	if (!committed && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	foreach(cell, held)
		courier_release(lfirst_oid(cell));
	list_free(held);
	held = NIL;
	/* a prepared one is told of too early, which is better than never */
	if (databases_changed && event != XACT_EVENT_ABORT)
		courier_launcher_wake(true);
	if (extension_created && event != XACT_EVENT_ABORT)
		courier_launcher_tell(MyDatabaseId, COURIER_NEWS_CREATED);
	databases_changed = extension_created = false;
}

/* courier.announce_extension(): the extension's script has run. */
Datum
courier_announce_extension(PG_FUNCTION_ARGS)
{
	extension_created = courier_preloaded();
	PG_RETURN_VOID();
}

/* In _PG_init(), if the postmaster loads the library. */
void
courier_worker_hold_init(void)
{
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(end_transaction, NULL);
}
