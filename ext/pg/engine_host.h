/*
 * engine_host.h
 *	  Between engine_loader.c, which calls the Go engine, and engine_host.c,
 *	  which the engine calls back.
 */
#ifndef COURIER_ENGINE_HOST_H
#define COURIER_ENGINE_HOST_H

#include <signal.h>

#include "courier_engine.h"

extern CourierHost courier_host;

extern void courier_block_signals(sigset_t *previous);
extern void courier_restore_signals(const sigset_t *previous);
extern void courier_host_begin(const sigset_t *mask);
extern void courier_host_end(void);

#endif							/* COURIER_ENGINE_HOST_H */
