/*
 * connect_trial.c
 *	  courier.try_connect(): would these servers let us in?
 *
 * dblink_connect() blocks its backend until the server answers or
 * connect_timeout is over, up to PostgreSQL 15 nothing interrupts it, and it
 * hides the SQLSTATE of a refusal.  A trial connects to several servers side
 * by side, can be cancelled, has a patience of its own, and says why.  The
 * connections are closed again: only a server that has just passed a trial is
 * worth the risk of dblink_connect().
 *
 * A trial uses the options that dblink would: those of the foreign server
 * and of the calling role's user mapping.  See libpq_calls.h.
 */
#include "pg_courier.h"

#include <poll.h>

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "libpq_calls.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(courier_try_connect);

/* An interrupt is noticed this late at worst, milliseconds. */
#define LONGEST_POLL 20

/* One server's trial. */
typedef struct Trial
{
	PGconn	   *conn;
	bool		holds_fd;
	bool		done;
	PostgresPollingStatusType wants;
	char	   *refusal;		/* SQLSTATE, a space, a reason; NULL: let in */
} Trial;

static const CourierLibpq *libpq;

static void
refuse(Trial *trial, const char *sqlstate, const char *reason)
{
	trial->done = true;
	trial->refusal = psprintf("%s %s", sqlstate, reason);
}

/* Text of a server that has not been told our encoding. */
static char *
printable(const char *text)
{
	char	   *copy = pstrdup(text);

	if (!pg_verifymbstr(copy, strlen(copy), true))
	{
		for (char *c = copy; *c; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	}
	return copy;
}

static bool
is_sqlstate(const char *text)
{
	for (int i = 0; i < 5; i++)
		if (!(text[i] >= '0' && text[i] <= '9') &&
			!(text[i] >= 'A' && text[i] <= 'Z'))
			return false;
	return text[5] == ':' && text[6] == ' ';
}

/*
 * Takes the SQLSTATE out of libpq's words.  A refusal by a server reads, at
 * this verbosity and in whatever language,
 *
 *		connection to server at "HOST", port N failed: FATAL:  28P01: message
 *		LOCATION:  ...
 *
 * and there may be several, for several addresses; the last one counts.
 * Without any, no server was reached.
 */
static void
refuse_by_libpq(Trial *trial)
{
	char	   *words = printable(libpq->errorMessage(trial->conn));
	char	   *mark = NULL;
	char	   *line;
	char	   *end;
	char		sqlstate[6] = "08001";

	for (char *c = words; (c = strstr(c, ":  ")) != NULL; c += 3)
		if (is_sqlstate(c + 3))
			mark = c;
	if (mark == NULL)
	{
		/* several lines for several addresses become one */
		for (end = words + strlen(words); end > words && end[-1] == '\n';)
			*--end = '\0';
		for (char *c = words; *c; c++)
			if (*c == '\n' || *c == '\t')
				*c = ' ';
		refuse(trial, sqlstate, words);
		return;
	}
	memcpy(sqlstate, mark + 3, 5);
	for (line = mark; line > words && line[-1] != '\n'; line--)
		;
	end = strchr(mark, '\n');
	if (end != NULL)
		*end = '\0';
	*mark = '\0';
	refuse(trial, sqlstate, psprintf("%s: %s", line, mark + 10));
}

static bool
has_user_mapping(Oid userid, Oid serverid)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER,
								 ObjectIdGetDatum(userid),
								 ObjectIdGetDatum(serverid)) ||
		SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							  ObjectIdGetDatum(InvalidOid),
							  ObjectIdGetDatum(serverid));
}

/* An option is libpq's or one that only dblink_fdw knows. */
static bool
known_to_libpq(PQconninfoOption *known, const char *keyword)
{
	for (; known->keyword != NULL; known++)
		if (strcmp(known->keyword, keyword) == 0)
			return true;
	return false;
}

/*
 * Starts a trial; what dblink would refuse is refused.  "encoding" is what the
 * connection is to speak, or NULL.
 */
static void
start_trial(Trial *trial, const char *name, PQconninfoOption *known,
			const char *encoding)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	List	   *options;
	ListCell   *cell;
	const char **keywords;
	const char **values;
	int			n = 0;
	bool		has_password = false;

	if (server == NULL)
	{
		refuse(trial, "42704",
			   psprintf("foreign server \"%s\" does not exist", name));
		return;
	}
	if (!courier_may_use_server(server->serverid))
	{
		refuse(trial, "42501",
			   psprintf("permission denied for foreign server %s", name));
		return;
	}
	if (!has_user_mapping(GetUserId(), server->serverid))
	{
		refuse(trial, "42704",
			   psprintf("foreign server \"%s\" has no user mapping for \"%s\"",
						name, GetUserNameFromId(GetUserId(), false)));
		return;
	}
	options = list_concat_copy(server->options,
							   GetUserMapping(GetUserId(), server->serverid)->options);
	keywords = palloc0(sizeof(char *) * (list_length(options) + 2));
	values = palloc0(sizeof(char *) * (list_length(options) + 2));
	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (!known_to_libpq(known, option->defname))
			continue;
		keywords[n] = option->defname;
		values[n++] = defGetString(option);
		if (strcmp(option->defname, "password") == 0)
			has_password = true;
	}
	if (encoding != NULL)
	{
		keywords[n] = "client_encoding";
		values[n++] = encoding;
	}
	if (!superuser() && !has_password)
	{
		refuse(trial, "2F003", "a role that is not a superuser needs a "
			   "password in the user mapping");
		return;
	}

	if (!AcquireExternalFD())
	{
		refuse(trial, "53000", "the source has no file descriptor left");
		return;
	}
	trial->holds_fd = true;
	trial->conn = libpq->connectStartParams(keywords, values, 0);
	if (trial->conn == NULL)
		refuse(trial, "53200", "out of memory");
	else if (libpq->status(trial->conn) == CONNECTION_BAD)
		refuse_by_libpq(trial);
	else
		libpq->setErrorVerbosity(trial->conn, PQERRORS_VERBOSE);
	trial->wants = PGRES_POLLING_WRITING;
}

static void
advance(Trial *trial)
{
	trial->wants = libpq->connectPoll(trial->conn);
	if (trial->wants == PGRES_POLLING_FAILED)
		refuse_by_libpq(trial);
	else if (trial->wants == PGRES_POLLING_OK)
	{
		trial->done = true;
		if (!superuser() && !libpq->connectionUsedPassword(trial->conn))
			refuse(trial, "2F003", "the server did not ask for the password, "
				   "which a role that is not a superuser needs");
	}
}

static void
run_trials(Trial *trials, int n, int patience)
{
	struct pollfd *fds = palloc(sizeof(struct pollfd) * n);
	Trial	  **of = palloc(sizeof(Trial *) * n);
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		instr_time	now;
		int			left;
		int			nfds = 0;

		for (int i = 0; i < n; i++)
		{
			if (trials[i].done)
				continue;
			fds[nfds].fd = libpq->socket(trials[i].conn);
			fds[nfds].events =
				trials[i].wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
			fds[nfds].revents = 0;
			of[nfds++] = &trials[i];
		}
		if (nfds == 0)
			return;
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		left = patience - (int) INSTR_TIME_GET_MILLISEC(now);
		if (left <= 0)
			break;
		/* a signal, or a time that is up, is no news here */
		if (poll(fds, nfds, Min(left, LONGEST_POLL)) > 0)
		{
			for (int i = 0; i < nfds; i++)
				if (fds[i].revents != 0)
					advance(of[i]);
		}
		CHECK_FOR_INTERRUPTS();
	}
	for (int i = 0; i < n; i++)
		if (!trials[i].done)
			refuse(&trials[i], "08001",
				   psprintf("the connection was not made within %d ms", patience));
}

static void
end_trials(Trial *trials, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (trials[i].conn != NULL)
			libpq->finish(trials[i].conn);
		if (trials[i].holds_fd)
			ReleaseExternalFD();
	}
}

/*
 * Connects to a server as dblink would, speaking the database's encoding.  It
 * is for the caller to finish the connection, and to release its file
 * descriptor.  A refusal is raised.
 */
PGconn *
courier_connect(const char *server, int patience)
{
	PQconninfoOption *known;
	Trial		trial = {0};
	PGconn	   *volatile conn = NULL;

	libpq = courier_libpq();
	known = libpq->conndefaults();
	if (known == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		start_trial(&trial, server, known, GetDatabaseEncodingName());
		run_trials(&trial, 1, patience);
		if (trial.refusal != NULL)
			ereport(ERROR,
					(errcode(MAKE_SQLSTATE(trial.refusal[0], trial.refusal[1],
										   trial.refusal[2], trial.refusal[3],
										   trial.refusal[4])),
					 errmsg("could not establish connection"),
					 errdetail_internal("%s", trial.refusal + 6)));
		conn = trial.conn;
		trial.conn = NULL;
		trial.holds_fd = false;
	}
	PG_FINALLY();
	{
		end_trials(&trial, 1);
		libpq->conninfoFree(known);
	}
	PG_END_TRY();
	return conn;
}

/* courier.try_connect(servers text[], patience int4) → text[] */
Datum
courier_try_connect(PG_FUNCTION_ARGS)
{
	int			patience = PG_GETARG_INT32(1);
	PQconninfoOption *known;
	Datum	   *names;
	Datum	   *refusals;
	bool	   *nulls;
	Trial	   *trials;
	int			n;
	int			dims[1];
	int			lower[1] = {1};

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, NULL, &n);
	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	libpq = courier_libpq();
	known = libpq->conndefaults();
	if (known == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	trials = palloc0(sizeof(Trial) * n);
	refusals = palloc0(sizeof(Datum) * n);
	nulls = palloc0(sizeof(bool) * n);

	PG_TRY();
	{
		for (int i = 0; i < n; i++)
			start_trial(&trials[i], TextDatumGetCString(names[i]), known,
						NULL);
		run_trials(trials, n, patience);
	}
	PG_FINALLY();
	{
		end_trials(trials, n);
		libpq->conninfoFree(known);
	}
	PG_END_TRY();

	for (int i = 0; i < n; i++)
	{
		nulls[i] = trials[i].refusal == NULL;
		if (!nulls[i])
			refusals[i] = CStringGetTextDatum(trials[i].refusal);
	}
	dims[0] = n;
	PG_RETURN_ARRAYTYPE_P(construct_md_array(refusals, nulls, 1, dims, lower,
											 TEXTOID, -1, false, TYPALIGN_INT));
}
