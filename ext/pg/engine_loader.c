/*
 * engine_loader.c
 *	  Opens the Go engine in this process; courier.ship() and the functions
 *	  that compare tables call it.
 *
 * The library is opened only here, in a process that ships.  A Go runtime
 * started before a fork hangs in the child, so it must never be preloaded.
 *
 * All signals are blocked around dlopen() and around every call.  The threads
 * of the Go runtime inherit that mask, so PostgreSQL's signals are never
 * delivered to them; above all SIGURG, which wakes latches through a signalfd
 * and must stay blocked in every thread, and which is Go's preemption signal
 * as well (the library is linked with preemption off).
 */
#include "pg_courier.h"

#include <dlfcn.h>

#include "engine_host.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(courier_ship);
PG_FUNCTION_INFO_V1(courier_compare);

static CourierEngine engine;

static void *
engine_symbol(void *library, const char *name)
{
	void	   *symbol = dlsym(library, name);

	if (symbol == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("pg_courier's engine has no function %s", name),
				 errhint("Install pg_courier again; its two libraries are of different versions.")));
	return symbol;
}

/* The engine, opened at the first call. */
const CourierEngine *
courier_engine(void)
{
	char		path[MAXPGPATH];
	sigset_t	mask;
	void	   *library;

	if (engine.ship != NULL)
		return &engine;

	if (courier_engine_library[0] != '\0')
		snprintf(path, sizeof(path), "%s%s", courier_engine_library, DLSUFFIX);
	else
		snprintf(path, sizeof(path), "%s/pg_courier_engine%s", pkglib_path,
				 DLSUFFIX);
	courier_block_signals(&mask);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	courier_restore_signals(&mask);
	if (library == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not load pg_courier's engine: %s", dlerror()),
				 errhint("Install pg_courier with \"make install\", which installs it beside pg_courier%s.",
						 DLSUFFIX)));

	engine.free = (courier_engine_free_fn)
		engine_symbol(library, "courier_engine_free");
	engine.open = (courier_engine_open_fn)
		engine_symbol(library, "courier_engine_open");
	engine.drain = (courier_engine_drain_fn)
		engine_symbol(library, "courier_engine_drain");
	engine.close = (courier_engine_close_fn)
		engine_symbol(library, "courier_engine_close");
	engine.compare = (courier_engine_compare_fn)
		engine_symbol(library, "courier_engine_compare");
	engine.ship = (courier_engine_ship_fn)
		engine_symbol(library, "courier_engine_ship");
	return &engine;
}

static char *
copy_or_null(const char *text)
{
	return text == NULL ? NULL : pstrdup(text);
}

/* Raises the engine's error as an SQL error; frees the outcome. */
void
courier_raise_failure(CourierOutcome *outcome)
{
	char		state[6];
	char	   *message = copy_or_null(outcome->failure.message);
	char	   *detail = copy_or_null(outcome->failure.detail);
	char	   *hint = copy_or_null(outcome->failure.hint);
	char	   *context = copy_or_null(outcome->failure.context);

	strlcpy(state, outcome->failure.sqlstate, sizeof(state));
	engine.free(outcome);
	ereport(ERROR,
			(errcode(strlen(state) == 5 ?
					 MAKE_SQLSTATE(state[0], state[1], state[2],
								   state[3], state[4]) :
					 ERRCODE_INTERNAL_ERROR),
			 errmsg_internal("%s", message ? message : "the engine failed"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0,
			 context ? errcontext("%s", context) : 0));
}

/*
 * The engine reads tables as text, which must not depend on what this session
 * prefers, and unqualified names must mean pg_catalog's.
 */
static void
use_engine_settings(void)
{
	courier_set_guc("search_path", "pg_catalog");
	courier_set_guc("DateStyle", "ISO");
	courier_set_guc("IntervalStyle", "postgres");
	courier_set_guc("TimeZone", "UTC");
	courier_set_guc("extra_float_digits", "1");
	courier_set_guc("bytea_output", "hex");
	courier_set_guc("lc_monetary", "C");
	courier_set_guc("row_security", "off");

	/* queries that are all short */
	courier_set_guc("max_parallel_workers_per_gather", "0");
	courier_set_guc("jit", "off");
}

/* courier.ship(subscription_name text) → bigint, changes shipped */
Datum
courier_ship(PG_FUNCTION_ARGS)
{
	char	   *subscription = PG_ARGISNULL(0) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(0));
	CourierOutcome outcome;
	sigset_t	mask;
	int64		changes;
	int			nest;

	(void) courier_engine();

	nest = NewGUCNestLevel();
	use_engine_settings();
	courier_block_signals(&mask);
	courier_host_begin(&mask);
	outcome = engine.ship(&courier_host, subscription);
	courier_restore_signals(&mask);

	if (outcome.status != COURIER_OK)
		courier_close_connections();
	if (outcome.status == COURIER_FAILED)
		courier_raise_failure(&outcome);
	changes = outcome.changes;
	engine.free(&outcome);
	courier_host_end();
	AtEOXact_GUC(true, nest);
	CHECK_FOR_INTERRUPTS();
	PG_RETURN_INT64(changes);
}

/* courier.run_comparison(subscription text, request text) → text, both JSON */
Datum
courier_compare(PG_FUNCTION_ARGS)
{
	char	   *subscription = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *request = text_to_cstring(PG_GETARG_TEXT_PP(1));
	CourierOutcome outcome;
	sigset_t	mask;
	text	   *answer;
	int			nest;

	(void) courier_engine();

	nest = NewGUCNestLevel();
	use_engine_settings();
	courier_block_signals(&mask);
	courier_host_begin(&mask);
	outcome = engine.compare(&courier_host, subscription, request);
	courier_restore_signals(&mask);

	if (outcome.status != COURIER_OK)
		courier_close_connections();
	if (outcome.status == COURIER_FAILED)
		courier_raise_failure(&outcome);
	answer = outcome.answer == NULL ? NULL : cstring_to_text(outcome.answer);
	engine.free(&outcome);
	courier_host_end();
	AtEOXact_GUC(true, nest);
	CHECK_FOR_INTERRUPTS();
	if (answer == NULL)
		elog(ERROR, "a comparison gave no answer");
	PG_RETURN_TEXT_P(answer);
}
