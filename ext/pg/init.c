/*
 * init.c
 *	  Module load: settings and the parts that keep state in a backend.
 *
 * The library is C only and may be preloaded or not.  The Go engine lives in
 * a library of its own, which engine_loader.c opens in the processes that
 * ship.
 */
#include "pg_courier.h"

#include "utils/builtins.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(courier_version);

int			courier_buffer_memory = 4096;
bool		courier_capture_ddl_enabled = true;
char	   *courier_engine_library = NULL;

void		_PG_init(void);

void
_PG_init(void)
{
	DefineCustomIntVariable("courier.buffer_memory",
							"Memory for a transaction's captured changes.",
							"Changes of a transaction past this size wait in a temporary file.",
							&courier_buffer_memory,
							4096, 64, 1024 * 1024,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("courier.capture_ddl",
							 "Captures DDL on tables of sets with ddl => 'auto'.",
							 "Off: DDL of this session is for this database only.",
							 &courier_capture_ddl_enabled,
							 true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("courier.engine_library",
							   "The engine that courier.ship() opens in a session.",
							   "A path without the suffix; empty for the one installed beside pg_courier.",
							   &courier_engine_library,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);
	courier_reserve_prefix("courier");

	courier_relation_cache_init();
	courier_buffer_init();
	courier_transaction_end_init();
}

/* courier.version() */
Datum
courier_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(COURIER_VERSION));
}
