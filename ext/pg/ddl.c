/*
 * ddl.c
 *	  courier.replicate_ddl(): a command that runs here and, at the same point
 *	  of the stream of changes, on the nodes.
 *
 * The command is queued as a message of the transaction's buffer, so it takes
 * part in savepoints, and is behind what the transaction changed before it
 * and before what it changes later.  Whoever changes a table that the command
 * has altered waits for its lock, and so comes behind in the queue as well.
 *
 * With the text go the settings on which its meaning and the values that it
 * computes depend.
 */
#include "pg_courier.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "tcop/cmdtag.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(courier_run_ddl);

/* Settings that go with a command. */
static const char *const ddl_settings[] = {
	"search_path", "standard_conforming_strings", "backslash_quote",
	"array_nulls", "transform_null_equals", "DateStyle", "IntervalStyle",
	"TimeZone", "extra_float_digits", "bytea_output", "lc_monetary",
	"lc_numeric", "lc_time", "xmloption", "xmlbinary",
	"check_function_bodies", "default_text_search_config"
};

#define SETTINGS lengthof(ddl_settings)

/* The sets of the replicate_ddl() that runs a command now, or NULL. */
static ArrayType *running_sets = NULL;

ArrayType *
courier_ddl_running_sets(void)
{
	return running_sets;
}

void
courier_ddl_note_origin(CourierDdlOrigin *origin)
{
	origin->role = GetUserNameFromId(GetUserId(), false);
	origin->settings = palloc(sizeof(char *) * SETTINGS);
	for (int i = 0; i < (int) SETTINGS; i++)
		origin->settings[i] = pstrdup(GetConfigOption(ddl_settings[i],
													  false, false));
}

/*
 * Queues a command: a 'Q' message, see docs/queue.md.
 */
void
courier_write_ddl(const CourierDdlOrigin *origin, ArrayType *sets,
				  const char *command, Size length)
{
	Datum	   *names;
	int			nnames;

	deconstruct_array(sets, TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &nnames);
	courier_order_now();
	courier_message_begin();
	courier_put_byte('Q');
	courier_put_bytes(origin->role, strlen(origin->role) + 1);
	courier_put_int16((int16) nnames);
	for (int i = 0; i < nnames; i++)
	{
		char	   *name = TextDatumGetCString(names[i]);

		courier_put_bytes(name, strlen(name) + 1);
	}
	courier_put_int16((int16) SETTINGS);
	for (int i = 0; i < (int) SETTINGS; i++)
	{
		courier_put_bytes(ddl_settings[i], strlen(ddl_settings[i]) + 1);
		courier_put_bytes(origin->settings[i],
						  strlen(origin->settings[i]) + 1);
	}
	courier_put_int32((int32) length);
	courier_put_bytes(command, length);
	courier_message_end();
}

/* A syntax error is one in the command, not in the query that passes it. */
static void
parse_error_callback(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
}

static List *
parse_command(const char *command)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = parse_error_callback,
		.arg = unconstify(char *, command),
	};
	List	   *statements;

	error_context_stack = &callback;
	statements = pg_parse_query(command);
	error_context_stack = callback.previous;
	return statements;
}

/* Refuses what cannot be replicated, and warns of values that will differ. */
static void
check_command(const char *command)
{
	List	   *statements = parse_command(command);
	ListCell   *lc;

	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the command is empty"),
				 errhint("Give at least one statement of DDL.")));
	foreach(lc, statements)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;
		const char *hint;
		const char *reason = courier_ddl_refusal(stmt, &hint);
		const char *column;

		if (reason != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s cannot be replicated: %s",
							GetCommandTagName(CreateCommandTag(stmt)), reason),
					 errhint("%s", hint)));
		column = courier_ddl_differing_column(stmt);
		if (column != NULL)
			ereport(WARNING,
					(errmsg("rows that exist may get other values of column \"%s\" on the nodes",
							column),
					 errdetail("Each side computes them for itself, by a sequence, the time or a volatile function."),
					 errhint("Add the column without them, fill it by UPDATE, which is replicated row by row, and set the default then.")));
	}
}

/*
 * Runs a command with running_sets set.  Settings that it changes, by SET
 * LOCAL, hold for itself only, here as on the nodes.
 */
static void
run_command(const char *command, ArrayType *sets)
{
	ArrayType  *outer = running_sets;
	int			nest_level = NewGUCNestLevel();

	running_sets = sets;
	PG_TRY();
	{
		SPI_connect();
		SPI_execute(command, false, 0);
		SPI_finish();
	}
	PG_FINALLY();
	{
		running_sets = outer;
	}
	PG_END_TRY();
	AtEOXact_GUC(false, nest_level);	/* undoes them */
}

/*
 * courier.run_ddl(command text, sets text[]): the work of replicate_ddl(),
 * which has checked who calls and that the sets exist.
 */
Datum
courier_run_ddl(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *sets = PG_GETARG_ARRAYTYPE_P(1);
	CourierDdlOrigin origin;

	PreventCommandIfReadOnly("courier.replicate_ddl()");
	PreventCommandDuringRecovery("courier.replicate_ddl()");
	check_command(command);
	courier_ddl_note_origin(&origin);
	run_command(command, sets);
	courier_write_ddl(&origin, sets, command, strlen(command));
	PG_RETURN_VOID();
}
