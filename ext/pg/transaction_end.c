/*
 * transaction_end.c
 *	  What happens to captured changes when the transaction ends.
 *
 * At PRE_COMMIT and PRE_PREPARE, where an error still aborts the transaction,
 * they are stored in the queue.  Behind that nothing here can fail.  At COMMIT
 * they have become visible, and those who wait for changes are woken; who starts
 * workers, too, if what was changed is the configuration.
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(courier_wake_at_commit);

/* Has this transaction put anything into the queue? */
static bool queued = false;

/* Has it changed the configuration, which concerns those who wait, too? */
static bool concerns_waiters = false;

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			courier_wait_settle(InvalidCommandId);
			queued = !courier_buffer_is_empty();
			if (queued)
				courier_flush_to_queue();
			courier_buffer_close();
			break;

		case XACT_EVENT_COMMIT:
			courier_shape_end_transaction(true);
			courier_ddl_end_transaction();
			courier_order_reset();
			courier_buffer_reset();
			if (queued || concerns_waiters)
				courier_wakeup_signal(queued);
			if (concerns_waiters && courier_preloaded())
				courier_housekeeper_wake(MyDatabaseId);
			queued = concerns_waiters = false;
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			courier_shape_end_transaction(false);
			courier_ddl_end_transaction();
			courier_order_reset();
			courier_buffer_reset();
			queued = concerns_waiters = false;
			break;

		default:
			break;
	}
}

/*
 * courier.wake_at_commit(): those who wait for changes are woken also if this
 * transaction queues nothing, and so is who starts workers.
 */
Datum
courier_wake_at_commit(PG_FUNCTION_ARGS)
{
	concerns_waiters = true;
	PG_RETURN_VOID();
}

void
courier_transaction_end_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
