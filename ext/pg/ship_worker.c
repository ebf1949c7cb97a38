/*
 * ship_worker.c
 *	  The worker that ships one subscription.
 *
 * It holds the subscription's lease, as long as it lives, and a connection to
 * the node; it calls the engine when a commit has queued something, and
 * otherwise when the engine wishes.  It leaves when the housekeeper tells it
 * to, which asks for it when a sidecar wishes to ship or the subscription is
 * no longer for workers; the batch under way is finished before.
 *
 * Errors of shipping are the engine's matter, which waits and tries again.
 * What goes wrong outside of that (the lease, the library, a panic) is written
 * down and ends the worker; the housekeeper starts another.
 *
 * While it waits it holds the lease, and no other lock and no snapshot.
 */
#include "worker.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "engine_host.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* After a cancel, milliseconds. */
#define CANCEL_PAUSE 1000

/* A wait is looked up from this often, milliseconds. */
#define LONGEST_WAIT 1000

static CourierShipOrder order;

static bool
take_lease(void)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(order.subscription)};
	bool		isnull;
	bool		taken;

	courier_worker_begin("SELECT courier.take_lease()");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args("SELECT courier.take_lease($1, '7 s')",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not take the lease of subscription %s", order.name);
	taken = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	courier_worker_commit();
	return taken;
}

static void
reload_if_asked(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Closes what the engine could not, after a cancel. */
static void
close_connections(void)
{
	courier_engine_worker_close();
	courier_worker_begin("close the connections");
	courier_close_connections();
	courier_worker_commit();
}

/* Waits behind an error: for the time, or a change of the configuration. */
static void
wait_to_retry(long pause_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  pause_ms);
	uint32		turns = courier_worker_turns();

	while (!courier_worker_told() && turns == courier_worker_turns())
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (rest <= 0)
			break;
		courier_worker_idle(rest);
		reload_if_asked();
	}
}

/* Waits for a commit that queued something, but no longer than a time. */
static void
wait_for_changes(uint64 seen, long pause_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  pause_ms);

	while (!courier_worker_told())
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		bool		news;

		if (rest <= 0)
			break;
		/* signals end the wait, and are looked at behind it */
		HOLD_INTERRUPTS();
		news = courier_wakeup_wait(seen, Min(rest, LONGEST_WAIT),
								   courier_wakeup_event());
		RESUME_INTERRUPTS();
		courier_worker_check();
		if (news)
			break;
		reload_if_asked();
	}
}

/* Ships until there is a reason to end. */
static void
ship(void)
{
	bool		open = false;

	while (!courier_worker_told())
	{
		uint64		seen = courier_wakeup_count();
		CourierOutcome outcome;

		reload_if_asked();
		if (!open)
			courier_engine_worker_open(order.name);
		open = true;
		outcome = courier_engine_worker_drain();
		pgstat_report_stat(outcome.changes == 0);
		pgstat_report_activity(STATE_IDLE, NULL);
		switch (outcome.status)
		{
			case COURIER_OK:
				if (outcome.failed)
					wait_to_retry(outcome.pause);
				else
					wait_for_changes(seen, outcome.pause);
				break;
			case COURIER_INTERRUPTED:
				(void) courier_host_interruption();
				ereport(LOG,
						(errmsg("pg_courier: shipping of subscription %s was canceled and begins anew",
								order.name)));
				close_connections();
				open = false;
				wait_to_retry(CANCEL_PAUSE);
				break;
			case COURIER_FAILED:
				courier_raise_failure(&outcome);
				break;
			case COURIER_ENDED:
				courier_engine_worker_close();
				return;
		}
	}
	if (open)
		courier_engine_worker_close();
}

void
courier_ship_worker_main(Datum arg)
{
	MemoryContext context;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!courier_worker_enter(order.database, order.subscription))
		proc_exit(0);
	courier_worker_connect(order.database);
	context = AllocSetContextCreate(TopMemoryContext, "pg_courier ship worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	PG_TRY();
	{
		if (take_lease())
		{
			MemoryContextSwitchTo(context);
			ship();
		}
	}
	PG_CATCH();
	{
		ErrorData  *error = courier_worker_catch(context);

		courier_worker_log(error);
		courier_worker_report(order.subscription, error->message,
							  unpack_sql_state(error->sqlerrcode),
							  error->hint, courier_worker_pause(1));
		proc_exit(1);
	}
	PG_END_TRY();
	proc_exit(0);
}
