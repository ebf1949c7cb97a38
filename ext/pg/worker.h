/*
 * worker.h
 *	  What the background workers share.
 *
 * launcher.c starts a housekeeping worker for each database that has the
 * extension; housekeeper.c starts a ship worker for each subscription that
 * nobody ships, which ships (ship_worker.c), and one that refreshes foreign
 * tables when that is due (refresh_worker.c).  They know of each other through a table
 * in shared memory (worker_table.c).  worker_hold.c makes them leave a
 * database that somebody needs for himself.
 */
#ifndef COURIER_WORKER_H
#define COURIER_WORKER_H

#include "pg_courier.h"

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

/* What the launcher is told of a database. */
typedef enum CourierNews
{
	COURIER_NEWS_CREATED,		/* has the extension since just now */
	COURIER_NEWS_PRESENT,		/* its housekeeper found the extension */
	COURIER_NEWS_ABSENT			/* its housekeeper found nothing to do */
} CourierNews;

/* In bgw_extra of a ship worker. */
typedef struct CourierShipOrder
{
	Oid			database;
	int			subscription;
	char		name[NAMEDATALEN];
} CourierShipOrder;

/* A worker that runs. */
typedef struct CourierWorkerInfo
{
	int			subscription;	/* or COURIER_HOUSEKEEPER, COURIER_REFRESHER */
	int			pid;
} CourierWorkerInfo;

#define COURIER_HOUSEKEEPER 0
#define COURIER_ALL_WORKERS (-1)
#define COURIER_REFRESHER (-2)

/* ---- worker_table.c ---- */
extern void courier_worker_table_init(void);
extern bool courier_worker_enter(Oid database, int subscription);
extern bool courier_worker_told(void);
extern uint32 courier_worker_turns(void);
extern int	courier_workers_of(Oid database, CourierWorkerInfo **workers);
extern void courier_workers_tell(Oid database, int subscription);
extern void courier_workers_turn(Oid database);
extern void courier_housekeeper_wake(Oid database);
extern bool courier_workers_shipping(void);
extern void courier_workers_close(bool closed);
extern bool courier_workers_closed(void);
extern void courier_launcher_enter(void);
extern void courier_launcher_wake(bool databases_changed);
extern void courier_launcher_tell(Oid database, CourierNews news);
extern bool courier_launcher_news(Oid *database, CourierNews *news);
extern bool courier_launcher_databases_changed(void);
extern bool courier_hold(Oid database);
extern void courier_release(Oid database);
extern bool courier_held(Oid database);

/* ---- worker_hold.c ---- */
extern void courier_worker_hold_init(void);

/* ---- worker_session.c: transactions of a worker ---- */
extern void courier_worker_connect(Oid database);
extern void courier_worker_connect_as(Oid database, Oid role);
extern void courier_worker_begin(const char *activity);
extern void courier_worker_commit(void);
extern ErrorData *courier_worker_catch(MemoryContext context);
extern void courier_worker_log(ErrorData *error);
extern bool courier_worker_extension_exists(void);
extern void courier_worker_report(int subscription, const char *message,
								  const char *sqlstate, const char *hint,
								  long pause_ms);
extern long courier_worker_pause(int failures);
extern void courier_worker_check(void);
extern void courier_worker_idle(long timeout_ms);

/* ---- launcher.c ---- */
extern void courier_launcher_register(void);
extern PGDLLEXPORT void courier_launcher_main(Datum arg);

/* ---- housekeeper.c ---- */
extern PGDLLEXPORT void courier_housekeeper_main(Datum arg);

/* ---- ship_worker.c ---- */
extern PGDLLEXPORT void courier_ship_worker_main(Datum arg);

/* ---- refresh_worker.c ---- */
extern void courier_keep_refreshing(Oid database);
extern PGDLLEXPORT void courier_refresh_worker_main(Datum arg);

#endif							/* COURIER_WORKER_H */
