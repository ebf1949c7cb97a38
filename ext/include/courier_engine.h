/*
 * courier_engine.h
 *	  The boundary between the extension (C, ext/pg) and the engine
 *	  (Go, ext/engine).
 *
 * The engine references no symbol of PostgreSQL: it is handed a table of
 * functions, so one build serves every server version.  No error crosses the
 * boundary as a jump; both sides return values.
 *
 * Memory: what the host returns stays the host's, until release(); what the
 * engine returns in a CourierOutcome was allocated with malloc() and is freed
 * by courier_engine_free().
 */
#ifndef COURIER_ENGINE_H
#define COURIER_ENGINE_H

#include <stdint.h>

/* A text; data == NULL is SQL's NULL.  Not terminated. */
typedef struct CourierText
{
	const char *data;
	int64_t		length;
} CourierText;

/* The rows of a query, row by row in one array of nrows * ncolumns cells. */
typedef struct CourierRows
{
	int64_t		nrows;
	int32_t		ncolumns;
	CourierText *cells;
	void	   *owner;			/* the host's */
} CourierRows;

/* An SQL error.  Texts are terminated; NULL where there is none. */
typedef struct CourierFailure
{
	char		sqlstate[6];
	const char *message;
	const char *detail;
	const char *hint;
	const char *context;
} CourierFailure;

typedef enum CourierStatus
{
	COURIER_OK = 0,
	COURIER_FAILED,				/* see the CourierFailure */
	COURIER_INTERRUPTED,		/* the host wants its thread back at once */
	COURIER_ENDED				/* there is nothing more to do: told to end, or
								 * the subscription is gone */
} CourierStatus;

/* How much a message matters, as in log/slog. */
typedef enum CourierLevel
{
	COURIER_LOG_DEBUG = -4,
	COURIER_LOG_INFO = 0,
	COURIER_LOG_WARN = 4,
	COURIER_LOG_ERROR = 8
} CourierLevel;

/* What the engine may ask of the process it runs in; one thread only. */
typedef struct CourierHost
{
	/*
	 * Runs one statement with text parameters.  bytea columns come as raw
	 * bytes, all others as text.
	 */
	CourierStatus (*query) (const char *sql, int32_t nargs,
							const CourierText *args,
							CourierRows *rows, CourierFailure *failure);
	void		(*release) (CourierRows *rows);

	/* Between pin and unpin every query sees the same snapshot. */
	CourierStatus (*pin) (CourierFailure *failure);
	void		(*unpin) (void);

	/* The pinned snapshot's name, for other sessions; the host's text. */
	CourierStatus (*share) (const char **name, CourierFailure *failure);

	/*
	 * NULL where queries run in the transaction of a caller.  Elsewhere each
	 * is a transaction of its own, except those between begin and end.
	 */
	CourierStatus (*begin) (CourierFailure *failure);
	CourierStatus (*end) (CourierFailure *failure);

	/* Of a worker; else NULL. */
	void		(*log) (CourierLevel level, const char *message);
	int			(*told) (void);	/* to end as soon as a batch is done */
} CourierHost;

/* How a call of the engine ended. */
typedef struct CourierOutcome
{
	CourierStatus status;
	int64_t		changes;		/* shipped */
	int64_t		pause;			/* a worker is to call again after so many
								 * milliseconds */
	int			failed;			/* the pause follows an error: no news makes
								 * it shorter */
	char	   *answer;			/* of a comparison: JSON */
	CourierFailure failure;
} CourierOutcome;

/* Exported by the engine's library. */
typedef CourierOutcome (*courier_engine_ship_fn) (CourierHost *host,
												  const char *subscription);

/*
 * Compares the tables of a subscription on both sides; the request is JSON, see
 * ext/engine/compare.go.
 */
typedef CourierOutcome (*courier_engine_compare_fn) (CourierHost *host,
													 const char *subscription,
													 const char *request);
typedef void (*courier_engine_free_fn) (CourierOutcome *outcome);

/*
 * For a worker, which holds the lease: open gives a number for a subscription
 * that is shipped again and again, over one connection.
 */
typedef int64_t (*courier_engine_open_fn) (CourierHost *host,
										   const char *subscription);
typedef CourierOutcome (*courier_engine_drain_fn) (int64_t shipper);
typedef void (*courier_engine_close_fn) (int64_t shipper);

#endif							/* COURIER_ENGINE_H */
