/*
 * libpq_calls.c
 *	  Finds libpq's functions in the copy that dblink has loaded.
 */
#include "libpq_calls.h"

#include <dlfcn.h>

#include "fmgr.h"

static void *
symbol(const char *name)
{
	void	   *found = dlsym(RTLD_DEFAULT, name);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("libpq's function %s was not found", name),
				 errhint("Install the dblink extension of this server.")));
	return found;
}

const CourierLibpq *
courier_libpq(void)
{
	static CourierLibpq calls;
	static bool found = false;

	if (found)
		return &calls;
	load_file("$libdir/dblink", false);
	calls.connectStartParams = symbol("PQconnectStartParams");
	calls.connectPoll = symbol("PQconnectPoll");
	calls.status = symbol("PQstatus");
	calls.socket = symbol("PQsocket");
	calls.errorMessage = symbol("PQerrorMessage");
	calls.connectionUsedPassword = symbol("PQconnectionUsedPassword");
	calls.setErrorVerbosity = symbol("PQsetErrorVerbosity");
	calls.finish = symbol("PQfinish");
	calls.conndefaults = symbol("PQconndefaults");
	calls.conninfoParse = symbol("PQconninfoParse");
	calls.conninfoFree = symbol("PQconninfoFree");
	calls.setnonblocking = symbol("PQsetnonblocking");
	calls.sendQuery = symbol("PQsendQuery");
	calls.flush = symbol("PQflush");
	calls.consumeInput = symbol("PQconsumeInput");
	calls.isBusy = symbol("PQisBusy");
	calls.getResult = symbol("PQgetResult");
	calls.resultStatus = symbol("PQresultStatus");
	calls.resultErrorField = symbol("PQresultErrorField");
	calls.cmdTuples = symbol("PQcmdTuples");
	calls.ntuples = symbol("PQntuples");
	calls.getvalue = symbol("PQgetvalue");
	calls.clear = symbol("PQclear");
	calls.binaryTuples = symbol("PQbinaryTuples");
	calls.putCopyData = symbol("PQputCopyData");
	calls.putCopyEnd = symbol("PQputCopyEnd");
	found = true;
	return &calls;
}
