/*
 * engine_host.c
 *	  What the Go engine may ask of the backend it runs in: SQL through SPI.
 *
 * The engine calls these functions from under a C→Go call, during which all
 * signals are blocked (see engine_loader.c).  They are unblocked here, where
 * SQL runs, so that cancel and terminate work.  Every statement runs in a
 * subtransaction, and its error is returned as a value: an error must never
 * jump over a Go frame.  A cancel is kept, and raised again by the loader
 * once Go has returned.  (A FATAL error ends the process from here, without
 * a jump.)
 *
 * Plans are kept by the statement's text: the engine uses some twenty over and
 * over.
 */
#include "pg_courier.h"

#include <pthread.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "engine_host.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* Longer statements are not kept as plans: they hold data. */
#define KEPT_STATEMENT_LENGTH 2048

/*
 * So many plans are kept, those that were used last: some statements name a
 * table, of which there may be thousands.
 */
#define KEPT_PLANS 64

typedef struct KeptPlan
{
	char	   *statement;		/* NULL: nothing is kept here */
	uint32		hash;			/* of the statement */
	int			running;		/* executions under way */
	uint64		used;			/* when it was used last, by count */
	SPIPlanPtr	plan;
} KeptPlan;

static KeptPlan kept_plans[KEPT_PLANS];
static uint64 uses = 0;
static Snapshot pinned = NULL;
static ErrorData *interruption = NULL;

/* What SQL runs under; signals are blocked while the engine runs. */
sigset_t	courier_host_unblocked;

/* Texts of the last failure live here until the next. */
static MemoryContext failure_context = NULL;

void
courier_block_signals(sigset_t *previous)
{
	sigset_t	all;

	sigfillset(&all);

	/*
	 * Not those that an instruction raises: the kernel kills a process that
	 * blocks them, while Go makes an ordinary panic of a nil pointer.
	 */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, previous);
}

void
courier_restore_signals(const sigset_t *previous)
{
	pthread_sigmask(SIG_SETMASK, previous, NULL);
}

/* Before a call of the engine: "mask" is what SQL runs under. */
void
courier_host_begin(const sigset_t *mask)
{
	courier_host_unblocked = *mask;
	pinned = NULL;
	interruption = NULL;
	if (failure_context == NULL)
		failure_context = AllocSetContextCreate(TopMemoryContext,
												"pg_courier engine failure",
												ALLOCSET_SMALL_SIZES);
}

/* After it: the cancel that made the engine return early, or NULL. */
ErrorData *
courier_host_interruption(void)
{
	ErrorData  *error = interruption;

	interruption = NULL;
	return error;
}

/* After it: raises that cancel, if there was one. */
void
courier_host_end(void)
{
	ErrorData  *error = courier_host_interruption();

	pinned = NULL;
	if (error != NULL)
		ReThrowError(error);
}

static SPIPlanPtr
prepare(const char *sql, int nargs)
{
	Oid		   *types = palloc(sizeof(Oid) * Max(nargs, 1));
	SPIPlanPtr	plan;

	for (int i = 0; i < nargs; i++)
		types[i] = TEXTOID;
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement of the engine: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

/* Where a statement is kept, or else the place for one; NULL: there is none. */
static KeptPlan *
find_kept_plan(const char *sql, uint32 hash)
{
	KeptPlan   *oldest = NULL;

	for (int i = 0; i < KEPT_PLANS; i++)
	{
		KeptPlan   *kept = &kept_plans[i];

		if (kept->statement != NULL && kept->hash == hash &&
			strcmp(kept->statement, sql) == 0)
			return kept;
		if (kept->running == 0 &&
			(oldest == NULL || kept->used < oldest->used))
			oldest = kept;
	}
	return oldest;
}

/* A statement's plan that is kept; NULL if it is not to be. */
static KeptPlan *
kept_plan(const char *sql, int nargs)
{
	Size		length = strlen(sql);
	uint32		hash;
	KeptPlan   *kept;
	SPIPlanPtr	plan;

	if (length >= KEPT_STATEMENT_LENGTH)
		return NULL;
	hash = DatumGetUInt32(hash_any((const unsigned char *) sql, length));
	kept = find_kept_plan(sql, hash);
	if (kept == NULL)
		return NULL;
	if (kept->statement == NULL || kept->hash != hash ||
		strcmp(kept->statement, sql) != 0)
	{
		char	   *copy;

		plan = prepare(sql, nargs);
		copy = MemoryContextStrdup(TopMemoryContext, sql);
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep a plan");
		if (kept->statement != NULL)
		{
			pfree(kept->statement);
			SPI_freeplan(kept->plan);
		}
		kept->statement = copy;
		kept->hash = hash;
		kept->plan = plan;
	}
	kept->used = ++uses;
	return kept;
}

/* Executes a plan that must stay until that is done. */
static pg_noinline int
execute_kept(KeptPlan *kept, Datum *values, char *nulls, bool read_only)
{
	volatile int status;

	kept->running++;
	PG_TRY();
	{
		status = SPI_execute_plan(kept->plan, values, nulls, read_only, 0);
	}
	PG_FINALLY();
	{
		kept->running--;
	}
	PG_END_TRY();
	return status;
}

/* Executes a statement; SPI must be connected. */
static int
execute(const char *sql, int nargs, Datum *values, char *nulls,
		bool read_only)
{
	KeptPlan   *kept = kept_plan(sql, nargs);

	if (kept != NULL)
		return execute_kept(kept, values, nulls, read_only);
	return SPI_execute_plan(prepare(sql, nargs), values, nulls, read_only, 0);
}

static CourierText
cell_text(HeapTuple tuple, TupleDesc desc, int column)
{
	CourierText cell = {NULL, 0};
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);
	Oid			type = SPI_gettypeid(desc, column);

	if (isnull)
		return cell;
	if (type == BYTEAOID || type == TEXTOID)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		cell.data = VARDATA_ANY(bytes);
		cell.length = VARSIZE_ANY_EXHDR(bytes);
	}
	else
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(type, &output, &is_varlena);
		cell.data = OidOutputFunctionCall(output, value);
		cell.length = strlen(cell.data);
	}
	return cell;
}

/* Copies SPI's result into "owner", which the engine releases. */
static void
collect_rows(MemoryContext owner, CourierRows *rows)
{
	MemoryContext old_context = MemoryContextSwitchTo(owner);
	SPITupleTable *table = SPI_tuptable;
	CourierText *cell;

	rows->owner = owner;
	rows->nrows = table == NULL ? 0 : (int64_t) SPI_processed;
	rows->ncolumns = table == NULL ? 0 : table->tupdesc->natts;
	rows->cells = cell = palloc_extended(sizeof(CourierText) *
										 Max(rows->nrows * rows->ncolumns, 1),
										 MCXT_ALLOC_HUGE);
	for (int64 r = 0; r < rows->nrows; r++)
		for (int c = 1; c <= rows->ncolumns; c++)
		{
			CourierText text = cell_text(table->vals[r], table->tupdesc, c);
			char	   *copy;

			if (text.data != NULL)
			{
				/* the tuple goes with SPI_finish() */
				copy = palloc_extended(Max(text.length, 1), MCXT_ALLOC_HUGE);
				memcpy(copy, text.data, text.length);
				text.data = copy;
			}
			*cell++ = text;
		}
	MemoryContextSwitchTo(old_context);
}

/* Runs one statement, in whatever transaction there is. */
void
courier_host_run(const char *sql, int nargs, const CourierText *args,
				 CourierRows *rows)
{
	MemoryContext owner;
	Datum	   *values;
	char	   *nulls;
	int			status;

	/* first: its memory goes with SPI_finish(), the caller's stays for long */
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");

	values = palloc(sizeof(Datum) * Max(nargs, 1));
	nulls = palloc(Max(nargs, 1));
	for (int i = 0; i < nargs; i++)
	{
		nulls[i] = args[i].data == NULL ? 'n' : ' ';
		values[i] = args[i].data == NULL ? (Datum) 0 :
			PointerGetDatum(cstring_to_text_with_len(args[i].data,
													 args[i].length));
	}

	if (pinned != NULL)
		PushActiveSnapshot(pinned);
	status = execute(sql, nargs, values, nulls, pinned != NULL);
	if (status < 0)
		elog(ERROR, "a statement of the engine failed: %s",
			 SPI_result_code_string(status));
	if (pinned != NULL)
		PopActiveSnapshot();

	owner = AllocSetContextCreate(TopMemoryContext, "pg_courier engine rows",
								  ALLOCSET_DEFAULT_SIZES);
	collect_rows(owner, rows);
	SPI_finish();
}

/* In PG_CATCH(): turns the error being handled into a value. */
CourierStatus
courier_host_catch(CourierFailure *failure)
{
	MemoryContext old_context;
	ErrorData  *error;

	MemoryContextReset(failure_context);
	old_context = MemoryContextSwitchTo(failure_context);
	error = CopyErrorData();
	MemoryContextSwitchTo(old_context);
	FlushErrorState();

	strlcpy(failure->sqlstate, unpack_sql_state(error->sqlerrcode),
			sizeof(failure->sqlstate));
	failure->message = error->message;
	failure->detail = error->detail;
	failure->hint = error->hint;
	failure->context = error->context;

	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		interruption = error;
		return COURIER_INTERRUPTED;
	}
	return COURIER_FAILED;
}

/* Runs one statement in a subtransaction. */
CourierStatus
courier_host_query(const char *sql, int32_t nargs, const CourierText *args,
				   CourierRows *rows, CourierFailure *failure)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile CourierStatus status = COURIER_OK;
	volatile bool begun = false;
	sigset_t	blocked;

	memset(rows, 0, sizeof(CourierRows));
	pthread_sigmask(SIG_SETMASK, &courier_host_unblocked, &blocked);

	PG_TRY();
	{
		BeginInternalSubTransaction(NULL);
		begun = true;
		CHECK_FOR_INTERRUPTS();
		courier_host_run(sql, nargs, args, rows);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old_context);
		status = courier_host_catch(failure);
		if (begun)
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
	}
	PG_END_TRY();

	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	return status;
}

void
courier_host_release(CourierRows *rows)
{
	if (rows->owner != NULL)
		MemoryContextDelete((MemoryContext) rows->owner);
	rows->owner = NULL;
}

CourierStatus
courier_host_pin(CourierFailure *failure)
{
	volatile CourierStatus status = COURIER_OK;

	PG_TRY();
	{
		pinned = RegisterSnapshot(GetLatestSnapshot());
	}
	PG_CATCH();
	{
		status = courier_host_catch(failure);
	}
	PG_END_TRY();
	return status;
}

void
courier_host_unpin(void)
{
	if (pinned != NULL)
		UnregisterSnapshot(pinned);
	pinned = NULL;
}

/*
 * Exports the pinned snapshot, which lasts until the transaction ends.  Not by
 * SQL: each statement is in a subtransaction, where that can't be done.
 */
CourierStatus
courier_host_share(const char **name, CourierFailure *failure)
{
	volatile CourierStatus status = COURIER_OK;

	PG_TRY();
	{
		if (pinned == NULL)
			elog(ERROR, "there is no pinned snapshot to share");
		if (IsSubTransaction())
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("a snapshot can't be shared from within a subtransaction"),
					 errhint("Call courier.ship() outside of savepoints and of blocks with an exception handler, or leave it to the sidecar or a worker.")));
		*name = ExportSnapshot(pinned);
	}
	PG_CATCH();
	{
		status = courier_host_catch(failure);
	}
	PG_END_TRY();
	return status;
}

CourierHost courier_host = {
	.query = courier_host_query,
	.release = courier_host_release,
	.pin = courier_host_pin,
	.unpin = courier_host_unpin,
	.share = courier_host_share,
};
