/*
 * copy_rows.h
 *	  What the two files share that send rows of a table over a link.
 */
#ifndef COURIER_COPY_ROWS_H
#define COURIER_COPY_ROWS_H

#include "utils/portal.h"

extern bool courier_is_plain(Oid output);
extern Portal courier_copy_open(const char *query, Datum first, Datum behind);

#endif							/* COURIER_COPY_ROWS_H */
