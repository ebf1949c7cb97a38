/*
 * transaction_end.c
 *	  What happens to captured changes when the transaction ends.
 *
 * At PRE_COMMIT and PRE_PREPARE, where an error still aborts the transaction,
 * they are stored in the queue.  Behind that nothing here can fail.
 */
#include "pg_courier.h"

#include "access/xact.h"

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (!courier_buffer_is_empty())
				courier_flush_to_queue();
			courier_buffer_close();
			break;

		case XACT_EVENT_COMMIT:
			courier_shape_end_transaction(true);
			courier_ddl_end_transaction();
			courier_buffer_reset();
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			courier_shape_end_transaction(false);
			courier_ddl_end_transaction();
			courier_buffer_reset();
			break;

		default:
			break;
	}
}

void
courier_transaction_end_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
