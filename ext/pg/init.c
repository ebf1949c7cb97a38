/*
 * init.c
 *	  Module load: settings and the parts that keep state in a backend.
 *
 * The library is C only and may be preloaded or not.  The Go engine lives in
 * a library of its own, which engine_loader.c opens in the processes that
 * ship.
 */
#include "pg_courier.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "worker.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(courier_version);

int			courier_buffer_memory = 4096;
bool		courier_capture_ddl_enabled = true;
char	   *courier_engine_library = NULL;
int			courier_queue_full_policy = COURIER_FULL_BLOCK;
int			courier_queue_max_size = 0;
int			courier_segment_age = 600;
int			courier_segment_size = 65536;
bool		courier_workers = true;

static const struct config_enum_entry full_policies[] = {
	{"block", COURIER_FULL_BLOCK, false},
	{"detach", COURIER_FULL_DETACH, false},
	{NULL, 0, false}
};

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
	DefineCustomEnumVariable("courier.queue_full_policy",
							 "What happens when the queue has reached courier.queue_max_size.",
							 "block: who changes replicated tables gets an error; detach: the slowest subscription is detached and needs a resync.",
							 &courier_queue_full_policy,
							 COURIER_FULL_BLOCK, full_policies,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("courier.queue_max_size",
							"Most disk space that the queue of a database may take.",
							"0 is no limit.",
							&courier_queue_max_size,
							0, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("courier.segment_age",
							"Age at which writers move on from a segment of the queue that holds anything.",
							"0 is no limit.",
							&courier_segment_age,
							600, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("courier.segment_size",
							"Size at which writers move on from a segment of the queue.",
							"Space is given back a segment at a time.",
							&courier_segment_size,
							65536, 64, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("courier.workers",
							 "Background workers ship subscriptions and keep house.",
							 "Only where pg_courier is in shared_preload_libraries.",
							 &courier_workers,
							 true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	courier_reserve_prefix("courier");

	if (process_shared_preload_libraries_in_progress)
	{
		courier_worker_table_init();
		courier_worker_hold_init();
		courier_launcher_register();
	}
	courier_relation_cache_init();
	courier_buffer_init();
	courier_order_init();
	courier_transaction_end_init();
	courier_queue_segment_init();
	courier_shared_init();
}

/* courier.version() */
Datum
courier_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(COURIER_VERSION));
}
