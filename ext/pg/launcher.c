/*
 * launcher.c
 *	  Starts a housekeeping worker for each database that has the extension.
 *
 * The launcher is connected to no database and knows only their list.  What a
 * database has, it learns by starting a housekeeper there, which ends at once
 * if there is nothing to do: once for a database that is new or not known
 * yet, few at a time, and again when the extension is created.  So a cluster
 * of thousands of databases is looked through once, not again and again.
 *
 * It also looks once a second whether the server is being stopped in the
 * "smart" mode, in which PostgreSQL signals workers only after all sessions
 * have ended.  A ship worker whose node is in the same server is the reason
 * for such a session, and would keep it open for ever.
 */
#include "worker.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Between two rounds if nothing happens, milliseconds. */
#define ROUND_INTERVAL 1000

/* Between two looks at the list of databases, milliseconds. */
#define DATABASES_INTERVAL 60000

/* Databases looked into at a time. */
#define MOST_PROBES 2

/* A housekeeper that lived this long had not failed to start. */
#define SURELY_STARTED 10000

typedef struct Database
{
	Oid			oid;			/* hash key */
	bool		listed;			/* seen in the last look at the list */
	enum
	{
		DATABASE_UNKNOWN,
		DATABASE_ABSENT,		/* has no extension, or wants no workers */
		DATABASE_PRESENT
	}			state;
	BackgroundWorkerHandle *handle; /* of the housekeeper, NULL: none */
	TimestampTz started;
	int			failures;		/* in a row */
	TimestampTz not_before;		/* of the next start */
} Database;

static HTAB *databases = NULL;

/* Was the lack of a slot said already? */
static bool said_full = false;

/* Registers the launcher, in _PG_init(). */
void
courier_launcher_register(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 1,
	};

	if (IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_library_name, "pg_courier", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "courier_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_courier launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_courier launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static Database *
find_database(Oid oid)
{
	bool		found;
	Database   *database = hash_search(databases, &oid, HASH_ENTER, &found);

	if (!found)
	{
		memset(database, 0, sizeof(Database));
		database->oid = oid;
	}
	return database;
}

/* Takes over the list of databases that allow connections. */
static void
list_databases(void)
{
	HASH_SEQ_STATUS status;
	Database   *database;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		database->listed = false;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "list the databases");
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		/* the limit of -2 marks one that was not dropped to the end */
		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != -2)
			find_database(form->oid)->listed = true;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		if (database->listed)
			continue;
		courier_workers_tell(database->oid, COURIER_ALL_WORKERS);
		if (database->handle != NULL)
			pfree(database->handle);
		hash_search(databases, &database->oid, HASH_REMOVE, NULL);
	}
}

/* Looks into databases again that had nothing to do. */
static void
forget_absent(void)
{
	HASH_SEQ_STATUS status;
	Database   *database;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		if (database->state == DATABASE_ABSENT)
			database->state = DATABASE_UNKNOWN;
}

static void
read_news(void)
{
	Oid			oid;
	CourierNews news;

	while (courier_launcher_news(&oid, &news))
	{
		Database   *database;

		if (!OidIsValid(oid))
		{
			forget_absent();
			continue;
		}
		database = hash_search(databases, &oid, HASH_FIND, NULL);
		if (database == NULL)
			continue;			/* found in the next look at the list */
		if (news == COURIER_NEWS_ABSENT)
			database->state = DATABASE_ABSENT;
		else
			database->state = DATABASE_PRESENT;
		database->failures = 0;
		database->not_before = 0;
	}
}

static bool
housekeeper_runs(Oid oid)
{
	CourierWorkerInfo *workers;
	int			count = courier_workers_of(oid, &workers);
	bool		runs = false;

	for (int i = 0; i < count && !runs; i++)
		runs = workers[i].subscription == COURIER_HOUSEKEEPER;
	pfree(workers);
	return runs;
}

/* Is a housekeeper of the database running or about to?  Notes its end. */
static bool
is_served(Database *database, TimestampTz now)
{
	pid_t		pid;
	BgwHandleStatus status;

	if (database->handle == NULL)
		return housekeeper_runs(database->oid); /* of an earlier launcher */
	status = GetBackgroundWorkerPid(database->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return true;

	pfree(database->handle);
	database->handle = NULL;
	if (database->state == DATABASE_ABSENT)
		return false;
	if (TimestampDifferenceExceeds(database->started, now, SURELY_STARTED))
		database->failures = 0;
	database->not_before =
		TimestampTzPlusMilliseconds(now, courier_worker_pause(++database->failures));
	return false;
}

static void
start_housekeeper(Database *database, TimestampTz now)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = ObjectIdGetDatum(database->oid),
		.bgw_notify_pid = MyProcPid,
	};

	strlcpy(worker.bgw_library_name, "pg_courier", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "courier_housekeeper_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_courier housekeeper for database %u",
			 database->oid);
	strlcpy(worker.bgw_type, "pg_courier housekeeper", BGW_MAXLEN);
	database->started = now;
	if (RegisterDynamicBackgroundWorker(&worker, &database->handle))
	{
		said_full = false;
		return;
	}
	database->handle = NULL;
	database->not_before =
		TimestampTzPlusMilliseconds(now, courier_worker_pause(++database->failures));
	if (!said_full)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("pg_courier has no background worker left for database %u",
						database->oid),
				 errhint("Increase max_worker_processes, which takes a restart; it is tried again meanwhile.")));
	said_full = true;
}

/*
 * Starts what is missing.  Returns when to look again at the latest, in
 * milliseconds.
 */
static long
start_housekeepers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS status;
	Database   *database;
	int			probes = 0;
	long		timeout = ROUND_INTERVAL;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		if (database->state == DATABASE_UNKNOWN && is_served(database, now))
			probes++;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		if (is_served(database, now) || database->state == DATABASE_ABSENT ||
			courier_held(database->oid))
			continue;
		if (database->not_before > now)
		{
			timeout = Min(timeout,
						  TimestampDifferenceMilliseconds(now, database->not_before) + 1);
			continue;
		}
		if (database->state == DATABASE_UNKNOWN && ++probes > MOST_PROBES)
			continue;
		start_housekeeper(database, now);
	}
	return timeout;
}

/* Is the server being stopped?  The postmaster writes so into its file. */
static bool
server_stops(void)
{
	FILE	   *file = fopen("postmaster.pid", "r");
	char		line[MAXPGPATH];
	bool		stops = false;

	if (file == NULL)
		return false;
	for (int i = 1; fgets(line, sizeof(line), file) != NULL; i++)
		if (i == LOCK_FILE_LINE_PM_STATUS)
			stops = strncmp(line, PM_STATUS_STOPPING,
							strlen(PM_STATUS_STOPPING)) == 0;
	fclose(file);
	return stops;
}

/* Lets workers in, or sends them away. */
static void
open_or_close(void)
{
	bool		was_closed = courier_workers_closed();
	bool		closed = !courier_workers ||
		((was_closed || courier_workers_shipping()) && server_stops());

	if (closed != was_closed)
		courier_workers_close(closed);
}

void
courier_launcher_main(Datum arg)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(Database),
	};
	MemoryContext context;
	TimestampTz listed = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	courier_launcher_enter();
	databases = hash_create("pg_courier databases", 64, &control,
							HASH_ELEM | HASH_BLOBS);
	context = AllocSetContextCreate(TopMemoryContext, "pg_courier launcher",
									ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		long		timeout = ROUND_INTERVAL;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			forget_absent();	/* it may be wanted there now */
		}
		open_or_close();
		if (!courier_workers_closed())
		{
			if (courier_launcher_databases_changed() ||
				TimestampDifferenceExceeds(listed, GetCurrentTimestamp(),
										   DATABASES_INTERVAL))
			{
				list_databases();
				MemoryContextSwitchTo(context);
				listed = GetCurrentTimestamp();
			}
			read_news();
			/* handles live on between rounds */
			MemoryContextSwitchTo(TopMemoryContext);
			timeout = start_housekeepers();
		}
		courier_worker_idle(timeout);
	}
}
