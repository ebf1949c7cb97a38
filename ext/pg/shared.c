/*
 * shared.c
 *	  Wake-up of those who wait for changes.
 *
 * The smallest form of it: whoever waits looks again after a while.
 */
#include "pg_courier.h"

#include "miscadmin.h"
#include "storage/latch.h"

/* Between two looks at the queue, milliseconds. */
#define POLL_INTERVAL 20

/* Was the library loaded by the postmaster? */
static bool preloaded = false;

void
courier_shared_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
}

bool
courier_preloaded(void)
{
	return preloaded;
}

uint64
courier_wakeup_count(void)
{
	return 0;
}

bool
courier_wakeup_wait(uint64 seen, long timeout_ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(timeout_ms, POLL_INTERVAL), wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}
