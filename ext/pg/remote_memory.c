/*
 * remote_memory.c
 *	  Memory of a process that sends to nodes is used again.
 *
 * Each batch passes through a few buffers as long as itself, which are freed
 * when it is sent.  By default glibc gives such memory back to the kernel at
 * once, and the next batch faults it in anew, page by page: with wide rows
 * that took a third of the time of a process that ships.
 */
#include "pg_courier.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "remote.h"

/*
 * How much free memory is kept, in bytes: some copies of a batch.  What is
 * larger than MAPPED_ALONE, as the statements of very large rows, is mapped
 * for itself and given back when it is freed.
 */
#define KEPT_FREE (16 * 1024 * 1024)
#define MAPPED_ALONE (4 * 1024 * 1024)

/* Called when a link is opened. */
void
courier_keep_memory(void)
{
#ifdef __GLIBC__
	static bool done = false;

	if (done)
		return;
	(void) mallopt(M_MMAP_THRESHOLD, MAPPED_ALONE);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
	done = true;
#endif
}
