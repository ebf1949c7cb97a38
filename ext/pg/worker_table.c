/*
 * worker_table.c
 *	  The workers that run, in shared memory.
 *
 * A worker has a slot from before it connects until it has left.  Slots tell
 * a housekeeper who ships already, also after a restart of its own, and are
 * how a worker is told to leave or that something has turned up.
 *
 * A database may be held: somebody drops, renames or copies it, or drops the
 * extension.  Then its workers leave, and none enters until it is released.
 * A worker takes its slot and looks for holds under one lock, so none slips
 * in behind somebody who looks for slots after having taken a hold.
 *
 * All of it is under one lightweight lock, held for a walk over arrays that
 * have max_worker_processes entries or a few dozen.  A flag for a worker is
 * an atomic, which it reads without the lock.
 */
#include "worker.h"

#include <signal.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#define TRANCHE "pg_courier workers"

/* Databases held at a time; further ones wait with an error. */
#define MAX_HOLDS 64

/* News for the launcher; if they are too many it looks at all databases. */
#define MAX_NEWS 64

typedef struct WorkerSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	int			subscription;	/* 0: the housekeeper */
	int			pid;
	Latch	   *latch;
	pg_atomic_uint32 told;		/* to leave */
	pg_atomic_uint32 turns;		/* grows when the configuration changes */
} WorkerSlot;

typedef struct WorkerTable
{
	LWLock	   *lock;
	bool		closed;			/* the server is about to stop, or workers
								 * are switched off: none enters */
	Latch	   *launcher;		/* NULL: it does not run */
	bool		databases_changed;
	int			nnews;
	struct
	{
		Oid			database;
		CourierNews news;
	}			news[MAX_NEWS];
	int			nholds;
	Oid			holds[MAX_HOLDS];	/* one of a database for each holder */
	int			nslots;
	WorkerSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} WorkerTable;

static WorkerTable *table = NULL;
static WorkerSlot *own_slot = NULL;

static shmem_startup_hook_type next_startup_hook = NULL;
static shmem_request_hook_type next_request_hook = NULL;

static Size
table_size(void)
{
	return add_size(offsetof(WorkerTable, slots),
					mul_size(max_worker_processes, sizeof(WorkerSlot)));
}

static void
request_table(void)
{
	if (next_request_hook)
		next_request_hook();
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* At start, and again after a crash: everybody who had a slot is gone. */
static void
create_table(void)
{
	bool		found;

	if (next_startup_hook)
		next_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table = ShmemInitStruct("pg_courier workers", table_size(), &found);
	if (!found)
	{
		memset(table, 0, table_size());
		table->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		table->databases_changed = true;
		table->nslots = max_worker_processes;
		for (int i = 0; i < table->nslots; i++)
		{
			pg_atomic_init_u32(&table->slots[i].told, 0);
			pg_atomic_init_u32(&table->slots[i].turns, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* In _PG_init(), if the postmaster loads the library. */
void
courier_worker_table_init(void)
{
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = create_table;
	courier_request_shared_memory(request_table, next_request_hook);
}

static bool
is_held(Oid database)
{
	for (int i = 0; i < table->nholds; i++)
		if (table->holds[i] == database)
			return true;
	return false;
}

static void
wake_launcher(void)
{
	if (table->launcher != NULL)
		SetLatch(table->launcher);
}

static void
leave_slot(int code, Datum arg)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	own_slot->database = InvalidOid;
	own_slot->latch = NULL;
	own_slot = NULL;
	wake_launcher();
	LWLockRelease(table->lock);
}

/*
 * Takes a slot for this process.  False: it is to end, since the database is
 * held, the work is being done already, or no work is to be done.
 */
bool
courier_worker_enter(Oid database, int subscription)
{
	WorkerSlot *slot = NULL;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	if (table->closed || is_held(database))
	{
		LWLockRelease(table->lock);
		return false;
	}
	for (int i = 0; i < table->nslots; i++)
	{
		WorkerSlot *each = &table->slots[i];

		if (each->database == database && each->subscription == subscription)
		{
			LWLockRelease(table->lock);
			return false;
		}
		if (slot == NULL && !OidIsValid(each->database))
			slot = each;
	}
	if (slot == NULL)			/* there are as many as there can be workers */
		elog(ERROR, "no slot is left in the table of workers");
	slot->database = database;
	slot->subscription = subscription;
	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	pg_atomic_write_u32(&slot->told, 0);
	own_slot = slot;
	LWLockRelease(table->lock);
	on_shmem_exit(leave_slot, (Datum) 0);
	return true;
}

/* Has this worker been told to leave? */
bool
courier_worker_told(void)
{
	return pg_atomic_read_u32(&own_slot->told) != 0;
}

/* How often the configuration has changed, by what the housekeeper saw. */
uint32
courier_worker_turns(void)
{
	return pg_atomic_read_u32(&own_slot->turns);
}

/* The workers in a database; palloc'd. */
int
courier_workers_of(Oid database, CourierWorkerInfo **workers)
{
	int			count = 0;

	*workers = palloc(sizeof(CourierWorkerInfo) * table->nslots);
	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->nslots; i++)
	{
		WorkerSlot *slot = &table->slots[i];

		if (slot->database != database)
			continue;
		(*workers)[count].subscription = slot->subscription;
		(*workers)[count].pid = slot->pid;
		count++;
	}
	LWLockRelease(table->lock);
	return count;
}

static void
tell_workers(Oid database, int subscription)
{
	for (int i = 0; i < table->nslots; i++)
	{
		WorkerSlot *slot = &table->slots[i];

		if (!OidIsValid(slot->database) ||
			(OidIsValid(database) && slot->database != database) ||
			(subscription != COURIER_ALL_WORKERS &&
			 slot->subscription != subscription))
			continue;
		if (pg_atomic_exchange_u32(&slot->told, 1) == 0)
			SetLatch(slot->latch);
	}
}

/* Tells a worker, or all of a database, or of all databases, to leave. */
void
courier_workers_tell(Oid database, int subscription)
{
	LWLockAcquire(table->lock, LW_SHARED);
	tell_workers(database, subscription);
	LWLockRelease(table->lock);
}

/* Lets ship workers that wait to try again do so. */
void
courier_workers_turn(Oid database)
{
	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->nslots; i++)
	{
		WorkerSlot *slot = &table->slots[i];

		if (slot->database == database &&
			slot->subscription != COURIER_HOUSEKEEPER)
		{
			pg_atomic_fetch_add_u32(&slot->turns, 1);
			SetLatch(slot->latch);
		}
	}
	LWLockRelease(table->lock);
}

/* Lets the housekeeper of a database look at its subscriptions. */
void
courier_housekeeper_wake(Oid database)
{
	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->nslots; i++)
	{
		WorkerSlot *slot = &table->slots[i];

		if (slot->database == database &&
			slot->subscription == COURIER_HOUSEKEEPER)
			SetLatch(slot->latch);
	}
	LWLockRelease(table->lock);
}

/* Does any ship worker run? */
bool
courier_workers_shipping(void)
{
	bool		shipping = false;

	LWLockAcquire(table->lock, LW_SHARED);
	for (int i = 0; i < table->nslots && !shipping; i++)
		shipping = OidIsValid(table->slots[i].database) &&
			table->slots[i].subscription != COURIER_HOUSEKEEPER;
	LWLockRelease(table->lock);
	return shipping;
}

/* Sends all workers away and lets none in, or ends that. */
void
courier_workers_close(bool closed)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	table->closed = closed;
	if (closed)
		tell_workers(InvalidOid, COURIER_ALL_WORKERS);
	LWLockRelease(table->lock);
}

bool
courier_workers_closed(void)
{
	return table->closed;
}

static void
leave_launcher(int code, Datum arg)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	table->launcher = NULL;
	LWLockRelease(table->lock);
}

/* This process is the launcher. */
void
courier_launcher_enter(void)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	table->launcher = MyLatch;
	table->databases_changed = true;
	LWLockRelease(table->lock);
	on_shmem_exit(leave_launcher, (Datum) 0);
}

/* Wakes the launcher, to look at the list of databases too if that changed. */
void
courier_launcher_wake(bool databases_changed)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	if (databases_changed)
		table->databases_changed = true;
	wake_launcher();
	LWLockRelease(table->lock);
}

/* Tells the launcher something of a database. */
void
courier_launcher_tell(Oid database, CourierNews news)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	if (table->nnews < MAX_NEWS)
	{
		table->news[table->nnews].database = database;
		table->news[table->nnews].news = news;
	}
	table->nnews++;
	wake_launcher();
	LWLockRelease(table->lock);
}

/*
 * Takes the oldest news; false if there are none.  Without a database: some
 * were lost.
 */
bool
courier_launcher_news(Oid *database, CourierNews *news)
{
	bool		any;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	any = table->nnews > 0;
	if (table->nnews > MAX_NEWS)
	{
		table->nnews = 0;
		*database = InvalidOid;
		*news = COURIER_NEWS_CREATED;
	}
	else if (any)
	{
		*database = table->news[0].database;
		*news = table->news[0].news;
		table->nnews--;
		memmove(&table->news[0], &table->news[1],
				sizeof(table->news[0]) * table->nnews);
	}
	LWLockRelease(table->lock);
	return any;
}

/* Has the list of databases changed since the last call? */
bool
courier_launcher_databases_changed(void)
{
	bool		changed;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	changed = table->databases_changed;
	table->databases_changed = false;
	LWLockRelease(table->lock);
	return changed;
}

/* Holds a database and tells its workers to leave; false if that can't be. */
bool
courier_hold(Oid database)
{
	bool		held = false;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	if (table->nholds < MAX_HOLDS)
	{
		table->holds[table->nholds++] = database;
		tell_workers(database, COURIER_ALL_WORKERS);
		held = true;
	}
	LWLockRelease(table->lock);
	return held;
}

/* Gives up a hold. */
void
courier_release(Oid database)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < table->nholds; i++)
		if (table->holds[i] == database)
		{
			table->holds[i] = table->holds[--table->nholds];
			break;
		}
	table->databases_changed = true;
	wake_launcher();
	LWLockRelease(table->lock);
}

bool
courier_held(Oid database)
{
	bool		held;

	LWLockAcquire(table->lock, LW_SHARED);
	held = is_held(database);
	LWLockRelease(table->lock);
	return held;
}
