/*
 * engine_host.h
 *	  Between those who call the Go engine, engine_loader.c for a session and
 *	  engine_worker.c for a ship worker, and engine_host.c, which the engine
 *	  calls back.
 */
#ifndef COURIER_ENGINE_HOST_H
#define COURIER_ENGINE_HOST_H

#include "postgres.h"

#include <signal.h>

#include "courier_engine.h"

/* ---- engine_loader.c ---- */

/* The functions of the engine's library. */
typedef struct CourierEngine
{
	courier_engine_ship_fn ship;
	courier_engine_compare_fn compare;
	courier_engine_open_fn open;
	courier_engine_drain_fn drain;
	courier_engine_close_fn close;
	courier_engine_free_fn free;
} CourierEngine;

extern const CourierEngine *courier_engine(void);
extern void courier_raise_failure(CourierOutcome *outcome) pg_attribute_noreturn();

/* ---- engine_worker.c ---- */
extern void courier_engine_worker_open(const char *subscription);
extern CourierOutcome courier_engine_worker_drain(void);
extern void courier_engine_worker_close(void);

/* ---- engine_host.c ---- */
extern CourierHost courier_host;
extern sigset_t courier_host_unblocked;

extern void courier_block_signals(sigset_t *previous);
extern void courier_restore_signals(const sigset_t *previous);
extern void courier_host_begin(const sigset_t *mask);
extern void courier_host_end(void);
extern ErrorData *courier_host_interruption(void);

/* Parts of a host. */
extern void courier_host_run(const char *sql, int nargs,
							 const CourierText *args, CourierRows *rows);
extern CourierStatus courier_host_catch(CourierFailure *failure);
extern CourierStatus courier_host_query(const char *sql, int32_t nargs,
										const CourierText *args,
										CourierRows *rows,
										CourierFailure *failure);
extern void courier_host_release(CourierRows *rows);
extern CourierStatus courier_host_pin(CourierFailure *failure);
extern CourierStatus courier_host_share(const char **name,
										CourierFailure *failure);
extern void courier_host_unpin(void);

#endif							/* COURIER_ENGINE_HOST_H */
