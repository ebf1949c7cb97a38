/*
 * copy_worker.c
 *	  The worker that copies one table for a session that waits.
 *
 * What a chunk is and how it is carried, courier.copy_table_*() know
 * (sql/copy_table*.sql); here are the transactions around them:
 *
 *	pull	each chunk is one transaction: its rows and the progress.
 *	push	a chunk is read in one transaction, of the snapshot that the caller
 *			has exported if there is no key to go by; the node's transaction
 *			has the rows and the progress; another here writes down how far
 *			it is.  While the node works on a chunk the next one is read,
 *			but for one with a large row, which is sent as it is read.
 *
 * The worker acts as the role of the caller.  It holds an advisory lock, by
 * which others see that the copy is alive.
 *
 * A cancel comes as SIGINT and ends it with an error, which nobody hears.
 */
#include "worker.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "copy_worker.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* Waits for locks as long as this unless the caller has a limit of his own. */
#define LOCK_TIMEOUT "60s"

/* What copy_table_read() gives, all of it text. */
enum
{
	CHUNK_COMMAND,				/* NULL: there are no more rows, or a large one */
	CHUNK_POSITION,				/* behind it; of a large one, before it */
	CHUNK_ROWS,
	CHUNK_BYTES,
	CHUNK_LARGE,				/* 'true': it has a row that goes in pieces */
	CHUNK_COLUMNS
};

static MemoryContext copy_context;
static int64 copy_id = 0;

/*
 * Runs a query of one row, whose columns and arguments are text, in the
 * transaction that is open.  The values are in copy_context.
 */
static void
query_row(const char *sql, int nargs, text *const *args, int ncolumns, text **columns)
{
	Oid			types[8];
	Datum		values[8];
	char		nulls[8];

	Assert(nargs <= (int) lengthof(types));
	for (int i = 0; i < nargs; i++)
	{
		types[i] = TEXTOID;
		values[i] = PointerGetDatum(args[i]);
		nulls[i] = args[i] == NULL ? 'n' : ' ';
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not execute a step of the copy");
	for (int i = 0; i < ncolumns; i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		MemoryContext old_context = MemoryContextSwitchTo(copy_context);

		columns[i] = isnull ? NULL : DatumGetTextPCopy(value);
		MemoryContextSwitchTo(old_context);
	}
	SPI_finish();
}

/* query_row() in a transaction of its own. */
static void
step(const char *sql, int nargs, text *const *args, int ncolumns, text **columns)
{
	courier_worker_begin(sql);
	query_row(sql, nargs, args, ncolumns, columns);
	courier_worker_commit();
	(void) pgstat_report_stat(false);
}

static void
pull(text *id)
{
	bool		more = true;

	while (more)
	{
		text	   *answer;

		CHECK_FOR_INTERRUPTS();
		step("SELECT courier.copy_table_pull($1::pg_catalog.int8)::pg_catalog.text", 1, &id, 1, &answer);
		more = *VARDATA_ANY(answer) == 't';
		pfree(answer);
	}
}

/* Begins a transaction that reads what the caller's snapshot sees. */
static void
begin_reading(const char *snapshot, const char *activity)
{
	if (snapshot[0] == '\0')
	{
		courier_worker_begin(activity);
		return;
	}
	SetCurrentStatementStartTimestamp();
	debug_query_string = activity;
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
	ImportSnapshot(snapshot);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Runs a query that gives a chunk. */
static void
read_chunk(const char *sql, int nargs, text *const *args, const char *snapshot, text **chunk)
{
	begin_reading(snapshot, sql);
	query_row(sql, nargs, args, CHUNK_COLUMNS, chunk);
	courier_worker_commit();
}

static void
push(text *id, text *job, text *position, const char *snapshot)
{
	static const char *const read_query =
		"SELECT command, position, rows::pg_catalog.text, bytes::pg_catalog.text, large::pg_catalog.text"
		" FROM courier.copy_table_read($1::pg_catalog.jsonb, $2)";
	static const char *const large_query =
		"SELECT NULL::pg_catalog.text, position, rows::pg_catalog.text, bytes::pg_catalog.text, NULL::pg_catalog.text"
		" FROM courier.copy_table_send_large($1::pg_catalog.jsonb, $2, $3)";
	static const char *const confirm_query =
		"SELECT courier.copy_table_confirm($1::pg_catalog.int8, $2, $3::pg_catalog.int8, $4::pg_catalog.int8, $5)";
	text	   *sent[CHUNK_COLUMNS] = {0};
	bool		more = true;

	while (more)
	{
		text	   *next[CHUNK_COLUMNS];
		text	   *read_args[] = {job, position};
		text	   *confirm_args[] = {id, sent[CHUNK_POSITION], sent[CHUNK_ROWS], sent[CHUNK_BYTES], NULL};
		bool		large;

		CHECK_FOR_INTERRUPTS();
		read_chunk(read_query, 2, read_args, snapshot, next);
		large = next[CHUNK_LARGE] != NULL && *VARDATA_ANY(next[CHUNK_LARGE]) == 't';
		confirm_args[4] = next[CHUNK_COMMAND];
		step(confirm_query, 5, confirm_args, 0, NULL);
		if (large)
		{
			text	   *large_args[] = {job, position, next[CHUNK_POSITION]};

			read_chunk(large_query, 3, large_args, snapshot, next);
		}
		more = large || next[CHUNK_COMMAND] != NULL;
		if (next[CHUNK_COMMAND] != NULL)
			pfree(next[CHUNK_COMMAND]);
		/* the large row may be gone: nothing is sent then */
		if (!large || next[CHUNK_POSITION] != NULL)
			position = next[CHUNK_POSITION];
		memcpy(sent, next, sizeof(sent));
	}
}

static void
copy(CourierCopyCall *call)
{
	text	   *request = cstring_to_text(call->request);
	text	   *opened[4];
	text	   *rows;

	step("SELECT copy_id::pg_catalog.text, direction, \"position\", job::pg_catalog.text"
		 " FROM courier.copy_table_open($1::pg_catalog.jsonb)", 1, &request, 4, opened);
	copy_id = strtoll(text_to_cstring(opened[0]), NULL, 10);
	if (strcmp(text_to_cstring(opened[1]), "pull") == 0)
		pull(opened[0]);
	else
		push(opened[0], opened[3], opened[2], call->snapshot);

	/* flushed with all that went before it */
	SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
	step("SELECT courier.copy_table_finish($1::pg_catalog.int8)::pg_catalog.text", 1, opened, 1, &rows);
	call->rows = strtoll(text_to_cstring(rows), NULL, 10);
	call->done = true;
	step("SELECT courier.copy_table_tidy($1::pg_catalog.int8)", 1, opened, 0, NULL);
}

/* Writes an error down where courier.copy_table_status shows it. */
static void
note_error(ErrorData *error)
{
	PG_TRY();
	{
		text	   *args[] = {
			cstring_to_text(psprintf(INT64_FORMAT, copy_id)),
			cstring_to_text(unpack_sql_state(error->sqlerrcode)),
			cstring_to_text(error->message),
		};

		step("SELECT courier.copy_table_failed($1::pg_catalog.int8, $2, $3)", 3, args, 0, NULL);
	}
	PG_CATCH();
	{
		courier_worker_log(courier_worker_catch(copy_context));
	}
	PG_END_TRY();
}

/* Puts an error into the answer. */
static void
answer_error(CourierCopyCall *call, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		error->message = psprintf("the copy waited for a lock of another session for longer than %s",
								  GetConfigOptionByName("lock_timeout", NULL, false));
		error->hint = "See who has it with SELECT pid, query FROM pg_stat_activity WHERE xact_start IS NOT NULL; or set lock_timeout to wait longer. The same call goes on behind the last chunk.";
	}
	strlcpy(call->sqlstate, unpack_sql_state(error->sqlerrcode), sizeof(call->sqlstate));
	strlcpy(call->message, error->message, sizeof(call->message));
	if (error->detail != NULL)
		strlcpy(call->detail, error->detail, sizeof(call->detail));
	if (error->hint != NULL)
		strlcpy(call->hint, error->hint, sizeof(call->hint));
}

void
courier_copy_worker_main(Datum arg)
{
	dsm_segment *segment;
	CourierCopyCall *call;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "pg_courier copy worker");
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller has given up */
	dsm_pin_mapping(segment);
	call = dsm_segment_address(segment);
	courier_worker_connect_as(call->database, call->role);
	SetConfigOption("application_name", "pg_courier copy worker", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", strcmp(call->lock_timeout, "0") == 0 ? LOCK_TIMEOUT : call->lock_timeout,
					PGC_USERSET, PGC_S_SESSION);
	copy_context = AllocSetContextCreate(TopMemoryContext, "pg_courier copy worker",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(copy_context);

	PG_TRY();
	{
		copy(call);
	}
	PG_CATCH();
	{
		ErrorData  *error = courier_worker_catch(copy_context);

		if (call->done)
			courier_worker_log(error);	/* of tidying up: all is copied */
		else
			answer_error(call, error);
		if (copy_id != 0 && !call->done)
			note_error(error);
		proc_exit(0);
	}
	PG_END_TRY();
	proc_exit(0);
}
