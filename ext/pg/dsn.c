/*
 * dsn.c
 *	  courier.parse_dsn(): a libpq connection string into its options.
 *
 * The parser is libpq's own, see libpq_calls.h.
 */
#include "pg_courier.h"

#include "funcapi.h"
#include "libpq_calls.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(courier_parse_dsn);

/* courier.parse_dsn(dsn text) → (keyword text, value text, secret boolean) */
Datum
courier_parse_dsn(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *dsn = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const CourierLibpq *libpq = courier_libpq();
	PQconninfoOption *options;
	char	   *error = NULL;

	courier_materialize_result(fcinfo);

	options = libpq->conninfoParse(dsn, &error);
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
	libpq->conninfoFree(options);
	return (Datum) 0;
}
