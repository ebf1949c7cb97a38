/*
 * shared.c
 *	  Shared memory: how a commit wakes those who wait for changes.
 *
 * There is shared memory only if the library was preloaded.  Each database has
 * a counter of the commits that concern waiters, another of those among them
 * that queued something, and a bitmap of the waiters that are to be woken by the
 * next.  There is no lock.
 *
 *	  waiter:     takes a slot, sets its bit, looks at the counter, sleeps
 *	  committer:  raises the counter, looks at the bitmap, and if a bit is
 *				  set clears all of them and sets the latches
 *
 * Between the two steps of each stands a full barrier, so that one of them
 * sees what the other did: either the waiter finds the counter raised, or the
 * committer finds the bit.  A bit cleared belongs to the one who cleared it:
 * of many commits at the same time one wakes the waiter, and the others pay
 * for raising a number.
 *
 * A latch may be set for a waiter that has given its slot to another process
 * in the meantime.  That is a wake-up for nothing, which every user of a latch
 * must be prepared for.
 */
#include "pg_courier.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/utility.h"

#define WAITER_WORDS 4
#define MAX_WAITERS (64 * WAITER_WORDS)
#define MAX_DATABASES 128

/* Databases beyond the last share a slot, and wake each other's waiters. */
typedef struct DatabaseSlot
{
	pg_atomic_uint32 database;	/* 0: free.  Never given back */
	pg_atomic_uint64 signals;
	pg_atomic_uint64 commits;	/* those that queued something */
	pg_atomic_uint64 armed[WAITER_WORDS];
} DatabaseSlot;

typedef union PaddedDatabaseSlot
{
	DatabaseSlot slot;
	char		padding[PG_CACHE_LINE_SIZE];
} PaddedDatabaseSlot;

typedef struct WaiterSlot
{
	pg_atomic_uint32 owner;		/* process id, 0: free */
	Latch	   *latch;
} WaiterSlot;

typedef struct CourierShared
{
	PaddedDatabaseSlot databases[MAX_DATABASES];
	WaiterSlot	waiters[MAX_WAITERS];
} CourierShared;

static CourierShared *shared = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;
static ProcessUtility_hook_type previous_process_utility = NULL;

static void
request_shared_memory(void)
{
	if (previous_shmem_request != NULL)
		previous_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(CourierShared)));
}

static void
start_shared_memory(void)
{
	bool		found;

	if (previous_shmem_startup != NULL)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pg_courier", sizeof(CourierShared), &found);
	if (!found)
	{
		for (int i = 0; i < MAX_DATABASES; i++)
		{
			DatabaseSlot *slot = &shared->databases[i].slot;

			pg_atomic_init_u32(&slot->database, 0);
			pg_atomic_init_u64(&slot->signals, 0);
			pg_atomic_init_u64(&slot->commits, 0);
			for (int word = 0; word < WAITER_WORDS; word++)
				pg_atomic_init_u64(&slot->armed[word], 0);
		}
		for (int i = 0; i < MAX_WAITERS; i++)
			pg_atomic_init_u32(&shared->waiters[i].owner, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * COMMIT PREPARED: what becomes visible was queued in another transaction, of
 * which nothing is known here any more.  It counts as having queued something.
 */
static void
process_utility(PlannedStmt *statement, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *receiver, QueryCompletion *completion)
{
	Node	   *node = statement->utilityStmt;
	bool		finishes = IsA(node, TransactionStmt) &&
	((TransactionStmt *) node)->kind == TRANS_STMT_COMMIT_PREPARED;

	(previous_process_utility != NULL ? previous_process_utility :
	 standard_ProcessUtility) (statement, query_string, read_only_tree,
							   context, params, environment, receiver,
							   completion);
	if (finishes)
		courier_wakeup_signal(true);
}

void
courier_shared_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	courier_request_shared_memory(request_shared_memory,
								  previous_shmem_request);
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

bool
courier_preloaded(void)
{
	return shared != NULL;
}

/* The slot of this backend's database. */
static DatabaseSlot *
my_database(void)
{
	static DatabaseSlot *mine = NULL;
	uint32		first;

	if (mine != NULL)
		return mine;
	first = murmurhash32(MyDatabaseId) % MAX_DATABASES;
	for (int i = 0; i < MAX_DATABASES && mine == NULL; i++)
	{
		DatabaseSlot *slot =
		&shared->databases[(first + i) % MAX_DATABASES].slot;
		uint32		database = 0;

		if (pg_atomic_compare_exchange_u32(&slot->database, &database,
										   MyDatabaseId) ||
			database == MyDatabaseId)
			mine = slot;
	}
	if (mine == NULL)
		mine = &shared->databases[first].slot;
	return mine;
}

/* ---- committers ---- */

static void
wake(int word, uint64 bits)
{
	while (bits != 0)
	{
		int			bit = pg_rightmost_one_pos64(bits);

		SetLatch(shared->waiters[64 * word + bit].latch);
		bits &= bits - 1;
	}
}

/*
 * Called when what the transaction has queued, or changed otherwise that
 * concerns waiters, is visible to others.
 */
void
courier_wakeup_signal(bool queued)
{
	DatabaseSlot *slot;

	if (shared == NULL)
		return;
	slot = my_database();
	if (queued)
		pg_atomic_fetch_add_u64(&slot->commits, 1);
	pg_atomic_fetch_add_u64(&slot->signals, 1); /* a full barrier */
	for (int word = 0; word < WAITER_WORDS; word++)
	{
		if (pg_atomic_read_u64(&slot->armed[word]) != 0)
			wake(word, pg_atomic_exchange_u64(&slot->armed[word], 0));
	}
}

/* ---- waiters ---- */

/* How many commits of this database have concerned waiters. */
uint64
courier_shared_signals(void)
{
	return pg_atomic_read_u64(&my_database()->signals);
}

/* How many of them have queued something. */
uint64
courier_shared_commits(void)
{
	return pg_atomic_read_u64(&my_database()->commits);
}

/* Takes a slot to be woken by; -1 if none is free. */
int
courier_waiter_take(void)
{
	for (int i = 0; i < MAX_WAITERS; i++)
	{
		int			n = (MyProcPid + i) % MAX_WAITERS;
		uint32		owner = 0;

		if (pg_atomic_compare_exchange_u32(&shared->waiters[n].owner, &owner,
										   (uint32) MyProcPid))
		{
			shared->waiters[n].latch = MyLatch;
			return n;
		}
	}
	return -1;
}

/* From here on the next commit sets the latch. */
void
courier_waiter_arm(int waiter)
{
	/* a full barrier: what is read later was not read before */
	pg_atomic_fetch_or_u64(&my_database()->armed[waiter / 64],
						   UINT64CONST(1) << (waiter % 64));
}

void
courier_waiter_release(int waiter)
{
	pg_atomic_fetch_and_u64(&my_database()->armed[waiter / 64],
							~(UINT64CONST(1) << (waiter % 64)));
	pg_atomic_write_u32(&shared->waiters[waiter].owner, 0);
}

PG_FUNCTION_INFO_V1(courier_waiters);

/* courier.waiters() → int4 */
Datum
courier_waiters(PG_FUNCTION_ARGS)
{
	int			used = 0;

	if (shared == NULL)
		PG_RETURN_NULL();
	for (int i = 0; i < MAX_WAITERS; i++)
	{
		if (pg_atomic_read_u32(&shared->waiters[i].owner) != 0)
			used++;
	}
	PG_RETURN_INT32(used);
}
