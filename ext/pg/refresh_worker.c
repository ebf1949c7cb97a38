/*
 * refresh_worker.c
 *	  The worker that refreshes foreign tables, on a schedule.
 *
 * The housekeeper starts it when courier.refresh_is_due() says so, once at a
 * time: a refresh asks the node and analyzes tables, for which the queue must
 * not wait.  It does all nodes that are due, each in a transaction of its own,
 * and ends.  Errors are written down by courier.refresh_next() itself.
 */
#include "worker.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

/* Are foreign tables to be refreshed? */
static bool
refresh_is_due(void)
{
	bool		due = false;
	bool		isnull;

	courier_worker_begin("SELECT courier.refresh_is_due()");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT pg_catalog.to_regprocedure('courier.refresh_is_due()') IS NOT NULL",
					true, 1) == SPI_OK_SELECT && SPI_processed == 1 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) &&
		SPI_execute("SELECT courier.refresh_is_due()", true, 1) == SPI_OK_SELECT && SPI_processed == 1)
		due = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	courier_worker_commit();
	return due;
}

/*
 * In the housekeeper: has a worker refresh foreign tables, if it is time to and
 * none does.
 */
void
courier_keep_refreshing(Oid database)
{
	static BackgroundWorkerHandle *handle = NULL;
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = ObjectIdGetDatum(database),
		.bgw_notify_pid = MyProcPid,
	};
	MemoryContext old_context;
	pid_t		pid;

	if (handle != NULL)
	{
		BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			return;
		pfree(handle);
		handle = NULL;
	}
	if (!refresh_is_due())
		return;
	strlcpy(worker.bgw_library_name, "pg_courier", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "courier_refresh_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_courier refresh worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_courier refresh worker", BGW_MAXLEN);
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		handle = NULL;
		ereport(DEBUG1,
				(errmsg_internal("pg_courier: no background worker is left to refresh foreign tables")));
	}
	MemoryContextSwitchTo(old_context);
}

/* Refreshes the tables of one node; false if none is due. */
static bool
refresh_next(void)
{
	bool		isnull;

	courier_worker_begin("SELECT courier.refresh_next()");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT courier.refresh_next()", false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not refresh foreign tables");
	(void) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	SPI_finish();
	courier_worker_commit();
	(void) pgstat_report_stat(true);
	return !isnull;
}

void
courier_refresh_worker_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	MemoryContext context;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!courier_worker_enter(database, COURIER_REFRESHER))
		proc_exit(0);
	courier_worker_connect(database);
	context = AllocSetContextCreate(TopMemoryContext, "pg_courier refresh worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		while (!courier_worker_told() && refresh_next())
			MemoryContextSwitchTo(context);
	}
	PG_CATCH();
	{
		courier_worker_log(courier_worker_catch(context));
	}
	PG_END_TRY();
	proc_exit(0);
}
