/*
 * copy_caller.c
 *	  courier.run_copy(): has a background worker copy a table, and waits.
 *
 * A function can't commit, and a copy has to commit each of its chunks, so
 * that one that is cut short goes on after the last of them.  So the chunks
 * are the transactions of a worker (copy_worker.c), which lives as long as
 * the call: a cancel of the caller is a cancel of the worker, and the end of
 * the caller's session, or of its client, is the worker's end.
 *
 * The worker may come to wait for a lock that this transaction holds, for
 * which nobody else would ever wake: the deadlock detector knows nothing of
 * the wait here.  So it is looked for here, and told.
 *
 * The worker is started dynamically: the library need not be preloaded.
 */
#include "pg_courier.h"

#include <signal.h>

#include "access/xact.h"
#include "copy_worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* of libpq/libpq.h, which asks for the headers of GSSAPI */
extern bool pq_check_connection(void);

PG_FUNCTION_INFO_V1(courier_run_copy);

/* How often it is seen whether somebody waits in vain, milliseconds. */
#define LOOK_INTERVAL 500

/* A cancelled worker that does not end by itself is terminated, milliseconds. */
#define CANCEL_PATIENCE 5000

/* Waits for the worker's end, without being interrupted. */
static bool
worker_ends(BackgroundWorkerHandle *handle, int timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

		if (status == BGWH_STOPPED || status == BGWH_POSTMASTER_DIED)
			return true;
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout_ms))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * Cleans up behind an error or the end of the session.  A session that ends
 * does not wait.
 */
static void
end_worker(int code, Datum arg)
{
	BackgroundWorkerHandle *handle = (BackgroundWorkerHandle *) DatumGetPointer(arg);
	pid_t		pid;

	if (!proc_exit_inprogress &&
		GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED &&
		kill(pid, SIGINT) == 0 && worker_ends(handle, CANCEL_PATIENCE))
		return;
	TerminateBackgroundWorker(handle);
	if (!proc_exit_inprogress)
		(void) worker_ends(handle, CANCEL_PATIENCE);
}

/*
 * A client that is gone can't be told anything, and would find the copy in use
 * when it comes again.  PostgreSQL itself looks only if it is told to
 * (client_connection_check_interval).
 */
static void
check_client(void)
{
	if (MyProcPort != NULL && whereToSendOutput == DestRemote &&
		!pq_check_connection())
	{
		whereToSendOutput = DestNone;
		ereport(FATAL,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to client lost")));
	}
}

/* Does the worker wait for a lock of this session? */
static bool
waits_for_us(pid_t pid)
{
	Datum		blockers = DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid));
	ArrayType  *array = DatumGetArrayTypeP(blockers);
	int32	   *pids = (int32 *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	for (int i = 0; i < n; i++)
		if (pids[i] == MyProcPid)
			return true;
	return false;
}

static void
await_worker(BackgroundWorkerHandle *handle)
{
	TimestampTz looked = GetCurrentTimestamp();

	for (;;)
	{
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

		if (status == BGWH_STOPPED)
			return;
		if (status == BGWH_POSTMASTER_DIED)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("the server is going down")));
		if (status == BGWH_STARTED &&
			TimestampDifferenceExceeds(looked, GetCurrentTimestamp(), LOOK_INTERVAL))
		{
			looked = GetCurrentTimestamp();
			check_client();
			if (waits_for_us(pid))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
						 errmsg("the copy waits for a lock that this transaction holds"),
						 errdetail("Its chunks are committed by another process, which can't go on before this transaction has ended."),
						 errhint("Commit what this transaction has done before, and call courier.copy_table() then.")));
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_INTERVAL, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static BackgroundWorkerHandle *
start_worker(dsm_segment *segment)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment)),
		.bgw_notify_pid = MyProcPid,
	};
	BackgroundWorkerHandle *handle;

	strlcpy(worker.bgw_library_name, "pg_courier", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "courier_copy_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_courier copy worker for PID %d", MyProcPid);
	strlcpy(worker.bgw_type, "pg_courier copy worker", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is left to copy the table"),
				 errhint("Try again when others have ended, or increase max_worker_processes, which takes a restart.")));
	return handle;
}

/* Raises what the worker has told. */
static void
raise_answer(CourierCopyCall *call)
{
	if (call->sqlstate[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("the worker that copied the table was terminated"),
				 errhint("Call courier.copy_table() again: it goes on after the last chunk. The server's log may say why.")));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(call->sqlstate[0], call->sqlstate[1],
								   call->sqlstate[2], call->sqlstate[3],
								   call->sqlstate[4])),
			 errmsg_internal("%s", call->message),
			 call->detail[0] == '\0' ? 0 : errdetail_internal("%s", call->detail),
			 call->hint[0] == '\0' ? 0 : errhint("%s", call->hint)));
}

/* Lets the worker read what this transaction sees, as long as it lasts. */
static void
export_snapshot(CourierCopyCall *call)
{
	if (GetCurrentTransactionNestLevel() > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a table without a key cannot be pushed in a subtransaction"),
				 errdetail("Its chunks are read with the snapshot of this transaction, which a subtransaction cannot share."),
				 errhint("Call courier.copy_table() outside of savepoints and of blocks with EXCEPTION, or name columns to go by in option \"key\".")));
	strlcpy(call->snapshot, ExportSnapshot(GetActiveSnapshot()), sizeof(call->snapshot));
}

/* courier.run_copy(request text, with_snapshot boolean) → rows, int8 */
Datum
courier_run_copy(PG_FUNCTION_ARGS)
{
	char	   *request = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Size		length = strlen(request) + 1;
	dsm_segment *segment = dsm_create(offsetof(CourierCopyCall, request) + length, 0);
	CourierCopyCall *call = dsm_segment_address(segment);
	BackgroundWorkerHandle *handle;
	int64		rows;

	memset(call, 0, offsetof(CourierCopyCall, request));
	memcpy(call->request, request, length);
	call->database = MyDatabaseId;
	call->role = GetUserId();
	strlcpy(call->lock_timeout, GetConfigOption("lock_timeout", false, false),
			sizeof(call->lock_timeout));
	if (PG_GETARG_BOOL(1))
		export_snapshot(call);

	handle = start_worker(segment);
	PG_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(handle));
	{
		await_worker(handle);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(handle));
	if (!call->done)
		raise_answer(call);
	rows = call->rows;
	dsm_detach(segment);
	PG_RETURN_INT64(rows);
}
