/*
 * structure.c
 *	  The structure of this database in pg_dump's words, for a node that lacks
 *	  some of it.
 *
 * pg_dump and pg_restore are those beside this server's own program: what they
 * write fits it.  They are run like the program of a COPY, and connect to this
 * database through its socket as the role that initdb made, without a
 * password.
 *
 * courier.dump_structure() has the whole schema, as a snapshot sees it that a
 * session shares, dumped into a temporary file,
 * and returns its list of contents, from which the engine chooses;
 * courier.restore_structure() returns those entries as SQL.  What is chosen is
 * named by number, so nothing that somebody has called an object can be taken
 * for something else.
 */
#include "pg_courier.h"

#include <unistd.h>

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(courier_dump_structure);
PG_FUNCTION_INFO_V1(courier_restore_structure);

/* The dump that was made last, or -1. */
static File dump = -1;

/* Appends a word to a command line of the shell. */
static void
append_word(StringInfo command, const char *word)
{
	appendStringInfoString(command, " '");
	for (; *word; word++)
	{
		if (*word == '\'')
			appendStringInfoString(command, "'\\''");
		else
			appendStringInfoChar(command, *word);
	}
	appendStringInfoChar(command, '\'');
}

/* A connection string of libpq that names a database, whatever its name is. */
static char *
connection_string(const char *database)
{
	StringInfoData string;

	initStringInfo(&string);
	appendStringInfoString(&string, "dbname='");
	for (; *database; database++)
	{
		if (*database == '\'' || *database == '\\')
			appendStringInfoChar(&string, '\\');
		appendStringInfoChar(&string, *database);
	}
	appendStringInfoChar(&string, '\'');
	return string.data;
}

/* Begins a command line with a program of this installation. */
static void
begin_command(StringInfo command, const char *name)
{
	char		path[MAXPGPATH];

	strlcpy(path, my_exec_path, sizeof(path));
	get_parent_directory(path);
	join_path_components(path, path, name);
	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("the program %s is not there: \"%s\"", name, path),
				 errhint("Install the client programs of PostgreSQL %d on the source's server, beside the server's own; or make the tables on the node by hand.",
						 PG_VERSION_NUM / 10000)));
	initStringInfo(command);
	append_word(command, path);
}

/* Runs a command; what it has to say is the detail of the error if it fails. */
static void
run_command(StringInfo command, const char *name)
{
	StringInfoData said;
	char		buffer[1024];
	FILE	   *pipe;
	int			status;

	appendStringInfoString(command, " 2>&1");
	initStringInfo(&said);
	pipe = OpenPipeStream(command->data, PG_BINARY_R);
	if (pipe == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not run %s: %m", name)));
	while (fgets(buffer, sizeof(buffer), pipe) != NULL)
		if (said.len < 8192)
			appendStringInfoString(&said, buffer);
	status = ClosePipeStream(pipe);
	if (status != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("%s failed: %s", name, wait_result_to_str(status)),
				 errdetail_internal("%s", said.data),
				 errhint("It runs on the source's server, as its system user, and connects through the server's socket as the role that initdb made: pg_hba.conf has to let that in without a password, by peer.")));
}

/* Reads a temporary file to its end. */
static text *
read_file(File file)
{
	int64		size = FileSize(file);
	text	   *result;
	int			got;

	if (size < 0 || size > (int64) MaxAllocSize - VARHDRSZ)
		elog(ERROR, "the structure of the database is too large");
	result = palloc(VARHDRSZ + size);
	got = FileRead(file, VARDATA(result), size, 0, PG_WAIT_EXTENSION);
	if (got != size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", FilePathName(file))));
	SET_VARSIZE(result, VARHDRSZ + size);
	return result;
}

static void
forget_dump(void)
{
	if (dump >= 0)
		FileClose(dump);
	dump = -1;
}

/* Has pg_restore write what the dump holds, all of it or a list of it. */
static text *
restore(const char *how, const char *list)
{
	File		result = OpenTemporaryFile(false);
	StringInfoData command;
	text	   *content;

	begin_command(&command, "pg_restore");
	append_word(&command, how);
	if (list != NULL)
		append_word(&command, list);
	append_word(&command, "--no-owner");
	append_word(&command, "--no-privileges");
	append_word(&command, "--file");
	append_word(&command, FilePathName(result));
	append_word(&command, FilePathName(dump));
	run_command(&command, "pg_restore");
	content = read_file(result);
	FileClose(result);
	return content;
}

/* courier.dump_structure(snapshot text) → text */
Datum
courier_dump_structure(PG_FUNCTION_ARGS)
{
	StringInfoData command;
	char	   *socket = pstrdup(GetConfigOption("unix_socket_directories",
											 false, false));
	char	   *comma = strchr(socket, ',');

	if (comma != NULL)
		*comma = '\0';
	forget_dump();
	begin_command(&command, "pg_dump");
	append_word(&command, "--schema-only");
	append_word(&command, "--format=custom");
	append_word(&command, "--no-password");
	append_word(&command, "--lock-wait-timeout=10s");
	append_word(&command, "--snapshot");
	append_word(&command, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	append_word(&command, "--host");
	append_word(&command, *socket == '\0' ? "localhost" : socket);
	append_word(&command, "--port");
	append_word(&command, GetConfigOption("port", false, false));
	append_word(&command, "--username");
	append_word(&command, GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false));
	dump = OpenTemporaryFile(true);
	append_word(&command, "--file");
	append_word(&command, FilePathName(dump));
	append_word(&command, "--dbname");
	append_word(&command, connection_string(get_database_name(MyDatabaseId)));
	run_command(&command, "pg_dump");
	PG_RETURN_TEXT_P(restore("--list", NULL));
}

/* courier.restore_structure(entries text) → text */
Datum
courier_restore_structure(PG_FUNCTION_ARGS)
{
	text	   *entries = PG_GETARG_TEXT_PP(0);
	File		list;
	text	   *content;

	if (dump < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("courier.dump_structure() was not called in this session")));
	list = OpenTemporaryFile(false);
	if (FileWrite(list, VARDATA_ANY(entries), VARSIZE_ANY_EXHDR(entries), 0,
				  PG_WAIT_EXTENSION) != (int) VARSIZE_ANY_EXHDR(entries))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", FilePathName(list))));
	content = restore("--use-list", FilePathName(list));
	FileClose(list);
	forget_dump();
	PG_RETURN_TEXT_P(content);
}
