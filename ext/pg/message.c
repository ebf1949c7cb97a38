/*
 * message.c
 *	  Writes changes as messages of pgoutput's protocol version 1.
 *
 * Values are text in a canonical form, whatever the user's session prefers:
 * the target must get the same bytes from every session, and the same key
 * must always be written in the same way.  Plain settings are swapped as
 * global variables around the output functions, which costs nanoseconds;
 * only the few types that depend on search_path or lc_monetary pay for real
 * GUC changes.
 *
 * Two messages are added to pgoutput's: 'V', laid out like Insert, is a row
 * that is to be inserted or, if its key is there, updated; 'F' says which row
 * filters let the row in, and is followed by the message of the change.
 */
#include "pg_courier.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "replication/logicalproto.h"
#include "utils/bytea.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/pg_locale.h"
#include "utils/pg_lsn.h"

/* Enough digits that every float is read back as the same float. */
#define CANONICAL_FLOAT_DIGITS 1

typedef struct OutputSettings
{
	int			date_style;
	int			interval_style;
	int			float_digits;
	int			bytea_style;
	pg_tz	   *time_zone;
} OutputSettings;

static pg_tz *utc = NULL;

static bool
settings_are_canonical(void)
{
	if (unlikely(utc == NULL))
		utc = pg_tzset("UTC");

	return DateStyle == USE_ISO_DATES &&
		IntervalStyle == INTSTYLE_POSTGRES &&
		extra_float_digits == CANONICAL_FLOAT_DIGITS &&
		bytea_output == BYTEA_OUTPUT_HEX &&
		session_timezone == utc;
}

static void
use_canonical_settings(OutputSettings *saved)
{
	saved->date_style = DateStyle;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->bytea_style = bytea_output;
	saved->time_zone = session_timezone;

	DateStyle = USE_ISO_DATES;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = CANONICAL_FLOAT_DIGITS;
	bytea_output = BYTEA_OUTPUT_HEX;
	session_timezone = utc;
}

static void
restore_settings(const OutputSettings *saved)
{
	DateStyle = saved->date_style;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	bytea_output = saved->bytea_style;
	session_timezone = saved->time_zone;
}

/*
 * Runs "body" with canonical settings.  A macro, so that the common case, a
 * relation whose output depends on no setting, costs one test.
 */
#define WITH_CANONICAL_SETTINGS(relation, body) \
	do { \
		if (!(relation)->needs_settings || \
			(settings_are_canonical() && !(relation)->needs_gucs)) \
		{ \
			body; \
		} \
		else \
		{ \
			OutputSettings saved_; \
			volatile int nest_ = 0; \
			if ((relation)->needs_gucs) \
			{ \
				nest_ = NewGUCNestLevel(); \
				courier_set_guc("search_path", "pg_catalog"); \
				courier_set_guc("lc_monetary", "C"); \
			} \
			use_canonical_settings(&saved_); \
			PG_TRY(); \
			{ \
				body; \
			} \
			PG_FINALLY(); \
			{ \
				restore_settings(&saved_); \
			} \
			PG_END_TRY(); \
			if (nest_ != 0) \
				AtEOXact_GUC(true, nest_); \
		} \
	} while (0)

/*
 * Begins the message of a changed row, whose filters have been evaluated if
 * its table has any.
 */
static void
begin_change(CourierRelation *relation, char kind)
{
	courier_message_begin();
	if (unlikely(relation->nfilters > 0))
		courier_put_filter_results(relation);
	courier_put_byte(kind);
	courier_put_int32(relation->shape);
}

/* An Insert ('I') or Upsert ('V') message. */
void
courier_write_insert(CourierRelation *relation, Datum *values, bool *nulls,
					 char kind)
{
	begin_change(relation, kind);
	courier_put_byte('N');
	WITH_CANONICAL_SETTINGS(relation,
							courier_put_tuple(relation, values, nulls, NULL, NULL));
	courier_message_end();
}

/* Do the old and the new row differ in a column of the replica identity? */
bool
courier_key_changed(CourierRelation *relation,
					Datum *old_values, bool *old_nulls,
					Datum *new_values, bool *new_nulls)
{
	for (int i = 0; i < relation->ncolumns; i++)
	{
		CourierColumn *column = &relation->columns[i];
		int			at = column->attnum - 1;

		if (!column->key)
			continue;
		if (old_nulls[at] != new_nulls[at])
			return true;
		if (!old_nulls[at] &&
			!datum_image_eq(old_values[at], new_values[at],
							column->by_value, column->length))
			return true;
	}
	return false;
}

static void
put_update_tuples(CourierRelation *relation,
				  Datum *old_values, bool *old_nulls,
				  Datum *new_values, bool *new_nulls)
{
	if (relation->whole_row)
	{
		courier_put_byte('O');
		courier_put_tuple(relation, old_values, old_nulls, NULL, NULL);
	}
	else if (relation->has_key &&
			 courier_key_changed(relation, old_values, old_nulls,
								 new_values, new_nulls))
	{
		courier_put_byte('K');
		courier_put_key(relation, old_values, old_nulls);
	}
	courier_put_byte('N');
	courier_put_tuple(relation, new_values, new_nulls, old_values, old_nulls);
}

void
courier_write_update(CourierRelation *relation,
					 Datum *old_values, bool *old_nulls,
					 Datum *new_values, bool *new_nulls)
{
	begin_change(relation, LOGICAL_REP_MSG_UPDATE);
	WITH_CANONICAL_SETTINGS(relation,
							put_update_tuples(relation,
											  old_values, old_nulls,
											  new_values, new_nulls));
	courier_message_end();
}

static void
put_old_row(CourierRelation *relation, Datum *values, bool *nulls)
{
	if (relation->has_key)
	{
		courier_put_byte('K');
		courier_put_key(relation, values, nulls);
	}
	else
	{
		courier_put_byte('O');
		courier_put_tuple(relation, values, nulls, NULL, NULL);
	}
}

void
courier_write_delete(CourierRelation *relation, Datum *values, bool *nulls)
{
	begin_change(relation, LOGICAL_REP_MSG_DELETE);
	WITH_CANONICAL_SETTINGS(relation, put_old_row(relation, values, nulls));
	courier_message_end();
}

/* A transactional logical decoding message: courier.enqueue(). */
void
courier_write_event(const char *channel, const char *payload, Size length)
{
	courier_order_last();
	courier_message_begin();
	courier_put_byte(LOGICAL_REP_MSG_MESSAGE);
	courier_put_byte(1);
	courier_put_int64(0);
	courier_put_bytes(channel, strlen(channel) + 1);
	courier_put_int32((int32) length);
	courier_put_bytes(payload, length);
	courier_message_end();
}
