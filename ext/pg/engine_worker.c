/*
 * engine_worker.c
 *	  The Go engine in a ship worker: calls of it, and what it may ask.
 *
 * Other than in a session, every query of the engine is a transaction of its
 * own, as over a connection from outside: it sees what has been committed,
 * what it writes is there for others, and nothing is held while the engine
 * waits for news.  Only a copy is one transaction, with a snapshot that its
 * queries share; in it the functions of a session are used.
 *
 * What engine_host.c says of signals and errors is true here too.
 */
#include "pg_courier.h"

#include <pthread.h>

#include "access/xact.h"
#include "engine_host.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker.h"

static int64_t shipper = 0;
static bool in_transaction = false;

static void
begin_transaction(const char *sql)
{
	SetCurrentStatementStartTimestamp();
	debug_query_string = sql;
	pgstat_report_activity(STATE_RUNNING, sql);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* In PG_CATCH(), with the error still to be taken. */
static CourierStatus
abort_transaction(CourierFailure *failure)
{
	CourierStatus status;

	HOLD_INTERRUPTS();
	status = courier_host_catch(failure);
	AbortCurrentTransaction();
	RESUME_INTERRUPTS();
	return status;
}

static CourierStatus
worker_query(const char *sql, int32_t nargs, const CourierText *args,
			 CourierRows *rows, CourierFailure *failure)
{
	MemoryContext old_context = CurrentMemoryContext;
	volatile CourierStatus status = COURIER_OK;
	sigset_t	blocked;

	if (in_transaction)
		return courier_host_query(sql, nargs, args, rows, failure);

	memset(rows, 0, sizeof(CourierRows));
	pthread_sigmask(SIG_SETMASK, &courier_host_unblocked, &blocked);
	PG_TRY();
	{
		begin_transaction(sql);
		CHECK_FOR_INTERRUPTS();
		courier_host_run(sql, nargs, args, rows);
		commit_transaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old_context);
		status = abort_transaction(failure);
		courier_host_release(rows);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	/* the text is the engine's and about to be freed */
	debug_query_string = NULL;
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	return status;
}

static CourierStatus
worker_begin(CourierFailure *failure)
{
	MemoryContext old_context = CurrentMemoryContext;
	volatile CourierStatus status = COURIER_OK;

	PG_TRY();
	{
		begin_transaction("copy");
		in_transaction = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old_context);
		status = abort_transaction(failure);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	return status;
}

static CourierStatus
worker_end(CourierFailure *failure)
{
	MemoryContext old_context = CurrentMemoryContext;
	volatile CourierStatus status = COURIER_OK;

	in_transaction = false;
	PG_TRY();
	{
		commit_transaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old_context);
		status = abort_transaction(failure);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	debug_query_string = NULL;
	return status;
}

static void
worker_log(CourierLevel level, const char *message)
{
	MemoryContext old_context = CurrentMemoryContext;

	PG_TRY();
	{
		ereport(level >= COURIER_LOG_WARN ? WARNING :
				level >= COURIER_LOG_INFO ? LOG : DEBUG1,
				(errmsg_internal("pg_courier: %s", message),
				 errhidestmt(true), errhidecontext(true)));
	}
	PG_CATCH();
	{
		/* out of memory: better no message than an error across Go */
		MemoryContextSwitchTo(old_context);
		FlushErrorState();
	}
	PG_END_TRY();
}

static int
worker_told(void)
{
	return courier_worker_told();
}

static CourierHost worker_host = {
	.query = worker_query,
	.release = courier_host_release,
	.pin = courier_host_pin,
	.unpin = courier_host_unpin,
	.share = courier_host_share,
	.begin = worker_begin,
	.end = worker_end,
	.log = worker_log,
	.told = worker_told,
};

void
courier_engine_worker_open(const char *subscription)
{
	const CourierEngine *engine = courier_engine();
	sigset_t	mask;

	courier_block_signals(&mask);
	shipper = engine->open(&worker_host, subscription);
	courier_restore_signals(&mask);
	if (shipper == 0)
		elog(ERROR, "the engine could not be started");
}

CourierOutcome
courier_engine_worker_drain(void)
{
	CourierOutcome outcome;
	sigset_t	mask;

	courier_block_signals(&mask);
	courier_host_begin(&mask);
	outcome = courier_engine()->drain(shipper);
	courier_restore_signals(&mask);
	return outcome;
}

/* Ends the connection to the node. */
void
courier_engine_worker_close(void)
{
	sigset_t	mask;

	courier_block_signals(&mask);
	courier_host_begin(&mask);
	courier_engine()->close(shipper);
	courier_restore_signals(&mask);
	shipper = 0;
}
