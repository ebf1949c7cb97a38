/*
 * libpq_calls.h
 *	  What is used of libpq, which comes with dblink.
 *
 * This library is not linked with libpq, because every backend that fires a
 * trigger would then load it (and its TLS library).
 */
#ifndef COURIER_LIBPQ_CALLS_H
#define COURIER_LIBPQ_CALLS_H

#include "postgres.h"

#include "libpq-fe.h"

typedef struct CourierLibpq
{
	/* connecting */
	PGconn	   *(*connectStartParams) (const char *const *, const char *const *, int);
	PostgresPollingStatusType (*connectPoll) (PGconn *);
	ConnStatusType (*status) (const PGconn *);
	int			(*socket) (const PGconn *);
	char	   *(*errorMessage) (const PGconn *);
	int			(*connectionUsedPassword) (const PGconn *);
	PGVerbosity (*setErrorVerbosity) (PGconn *, PGVerbosity);
	void		(*finish) (PGconn *);
	PQconninfoOption *(*conndefaults) (void);
	PQconninfoOption *(*conninfoParse) (const char *, char **);
	void		(*conninfoFree) (PQconninfoOption *);

	/* commands */
	int			(*setnonblocking) (PGconn *, int);
	int			(*sendQuery) (PGconn *, const char *);
	int			(*flush) (PGconn *);
	int			(*consumeInput) (PGconn *);
	int			(*isBusy) (PGconn *);
	PGresult   *(*getResult) (PGconn *);
	ExecStatusType (*resultStatus) (const PGresult *);
	char	   *(*resultErrorField) (const PGresult *, int);
	char	   *(*cmdTuples) (PGresult *);
	int			(*ntuples) (const PGresult *);
	char	   *(*getvalue) (const PGresult *, int, int);
	void		(*clear) (PGresult *);
	int			(*binaryTuples) (const PGresult *);
	int			(*putCopyData) (PGconn *, const char *, int);
	int			(*putCopyEnd) (PGconn *, const char *);
} CourierLibpq;

/* ---- libpq_calls.c ---- */
extern const CourierLibpq *courier_libpq(void);

/* ---- connect_trial.c ---- */
extern PGconn *courier_connect(const char *server, int patience);

#endif							/* COURIER_LIBPQ_CALLS_H */
