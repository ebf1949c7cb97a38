/*
 * dsn.c
 *	  courier.parse_dsn(): a libpq connection string into its options.
 *
 * The parser is libpq's own.  This library is not linked with libpq, because
 * every backend that fires a trigger would then load it (and its TLS
 * library); it comes with dblink, which is loaded here.
 */
#include "pg_courier.h"

#include <dlfcn.h>

#include "funcapi.h"
#include "libpq-fe.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(courier_parse_dsn);

typedef PQconninfoOption *(*conninfo_parse_fn) (const char *, char **);
typedef void (*conninfo_free_fn) (PQconninfoOption *);

static void *
libpq_symbol(const char *name)
{
	void	   *symbol = dlsym(RTLD_DEFAULT, name);

	if (symbol == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("libpq's function %s was not found", name),
				 errhint("Install the dblink extension of this server.")));
	return symbol;
}

/* courier.parse_dsn(dsn text) → (keyword text, value text, secret boolean) */
Datum
courier_parse_dsn(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *dsn = text_to_cstring(PG_GETARG_TEXT_PP(0));
	conninfo_parse_fn parse;
	conninfo_free_fn release;
	PQconninfoOption *options;
	char	   *error = NULL;

	load_file("$libdir/dblink", false);
	parse = (conninfo_parse_fn) libpq_symbol("PQconninfoParse");
	release = (conninfo_free_fn) libpq_symbol("PQconninfoFree");
	courier_materialize_result(fcinfo);

	options = parse(dsn, &error);
	if (options == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the connection string does not parse"),
				 errhint("Write it as libpq does: 'host=... port=... dbname=... user=...' or 'postgresql://user@host:port/dbname'.")));

	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		Datum		values[3];
		bool		nulls[3] = {0};

		if (option->val == NULL)
			continue;
		values[0] = CStringGetTextDatum(option->keyword);
		values[1] = CStringGetTextDatum(option->val);
		/* libpq marks what a dialogue would show as asterisks */
		values[2] = BoolGetDatum(strcmp(option->keyword, "user") == 0 ||
								 option->dispchar[0] == '*');
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	release(options);
	return (Datum) 0;
}
