/*
 * relation_cache.c
 *	  How to write a row of a table: columns, output functions, key, shape,
 *	  row filters.
 *
 * An entry is built when a table's trigger fires for the first time in a
 * backend, and built anew after any relcache invalidation of the table (DDL,
 * but also ANALYZE) or of the partitioned table it is published as.  The
 * invalidation callback only marks entries: one may be in use.
 */
#include "pg_courier.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "libpq/pqformat.h"
#include "replication/logicalproto.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/*
 * Flags of a column in a definition: pgoutput's, that it belongs to the
 * replica identity, and ours, that its values are generated.
 */
#define COLUMN_IS_KEY 1
#define COLUMN_IS_GENERATED 2

static HTAB *relations = NULL;
static uint64 invalidations = 0;	/* counts callbacks */

static void build_entry(CourierRelation *entry, Relation rel);

/* A relation changed, or (InvalidOid) any may have. */
static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	CourierRelation *entry;

	invalidations++;
	hash_seq_init(&scan, relations);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (relid == InvalidOid ||
			entry->relid == relid || entry->published == relid)
			entry->valid = false;
	}
}

/* A schema was renamed or a type altered: rare, so forget everything. */
static void
syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	relcache_callback(arg, InvalidOid);
}

void
courier_relation_cache_init(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(CourierRelation),
		.hcxt = TopMemoryContext,
	};

	relations = hash_create("pg_courier relations", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, syscache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, syscache_callback, (Datum) 0);
}

/* The entry of a table if there is one, valid or not. */
CourierRelation *
courier_relation_find(Oid relid)
{
	return hash_search(relations, &relid, HASH_FIND, NULL);
}

/* The valid entry of a table; "rel" is open and locked. */
CourierRelation *
courier_relation_lookup(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	bool		found;
	CourierRelation *entry;

	entry = hash_search(relations, &relid, HASH_ENTER, &found);
	if (!found)
	{
		/* all but the key */
		memset((char *) entry + sizeof(Oid), 0,
			   sizeof(CourierRelation) - sizeof(Oid));
	}
	if (unlikely(!entry->valid))
		build_entry(entry, rel);
	return entry;
}

/*
 * The table whose name changes of "rel" are published under: the topmost
 * partitioned table that has our trigger, else the table itself.
 */
static Oid
published_relation(Relation rel)
{
	Oid			published = RelationGetRelid(rel);
	ListCell   *lc;

	if (!rel->rd_rel->relispartition)
		return published;

	foreach(lc, get_partition_ancestors(RelationGetRelid(rel)))
	{
		Oid			ancestor = lfirst_oid(lc);

		if (OidIsValid(get_trigger_oid(ancestor, COURIER_ROW_TRIGGER, true)))
			published = ancestor;
	}
	return published;
}

/*
 * The relation of published_relation().  It is not locked: a writer has locked
 * the partition, and who alters the partitioned table may hold its lock and
 * wait for ours.
 */
static Relation
open_published(Oid published, Relation rel)
{
	Relation	result;

	if (published == RelationGetRelid(rel))
		return rel;
	result = RelationIdGetRelation(published);
	if (!RelationIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the partitioned table of partition \"%s\" was dropped meanwhile",
						RelationGetRelationName(rel))));
	return result;
}

/*
 * The columns that identify a row, offset by
 * FirstLowInvalidHeapAttributeNumber: courier.key_columns() of the table that
 * the row is published under, but for REPLICA IDENTITY FULL.  A partition's
 * own replica identity does not count: it is not inherited, and what is
 * unique in a partition need not be so in the whole table.  A deferrable
 * index is no key, whatever the server's own idea of it is.
 */
static Bitmapset *
key_columns(Relation rel, Relation published)
{
	Bitmapset  *key = NULL;
	char		identity = published->rd_rel->relreplident;
	ListCell   *lc;

	if (identity == REPLICA_IDENTITY_NOTHING)
		return NULL;

	foreach(lc, RelationGetIndexList(published))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisvalid && index->indimmediate &&
			(identity == REPLICA_IDENTITY_INDEX ?
			 index->indisreplident : index->indisprimary))
		{
			for (int i = 0; i < index->indnkeyatts; i++)
			{
				AttrNumber	attnum = index->indkey.values[i];

				if (published != rel)
					attnum = get_attnum(RelationGetRelid(rel),
										get_attname(RelationGetRelid(published),
													attnum, false));
				key = bms_add_member(key,
									 attnum - FirstLowInvalidHeapAttributeNumber);
			}
		}
		ReleaseSysCache(tuple);
	}
	return key;
}

/*
 * Which setting, if any, does a type's text form depend on?  Sets *plain for
 * DateStyle and its like, *guc for search_path and lc_monetary.
 */
static void
type_settings(Oid type, bool *plain, bool *guc)
{
	Oid			element;

	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		type_settings(element, plain, guc);
		return;
	}

	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case OIDOID:
		case UUIDOID:
		case JSONOID:
		case JSONBOID:
		case XMLOID:
		case INETOID:
		case CIDROID:
		case BITOID:
		case VARBITOID:
			return;

		case CASHOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			*guc = true;
			return;

		default:
			/* anything may be inside a composite or an extension's type */
			*plain = true;
			if (type >= FirstNormalObjectId &&
				get_typtype(type) != TYPTYPE_ENUM)
				*guc = true;
			return;
	}
}

static CourierOutput
output_kind(Oid output_function)
{
	switch (output_function)
	{
		case F_INT2OUT:
			return COURIER_OUTPUT_INT2;
		case F_INT4OUT:
			return COURIER_OUTPUT_INT4;
		case F_INT8OUT:
			return COURIER_OUTPUT_INT8;
		case F_TEXTOUT:
		case F_VARCHAROUT:
		case F_BPCHAROUT:
		case F_JSON_OUT:
			return COURIER_OUTPUT_VARLENA;
		default:
			return COURIER_OUTPUT_FUNCTION;
	}
}

static void
fill_columns(CourierRelation *entry, Relation rel, Relation published)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *key = key_columns(rel, published);
	bool		full = published->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	bool		guc = false;
	bool		plain = false;

	entry->has_key = key != NULL;
	entry->whole_row = full && key == NULL;
	entry->columns = MemoryContextAllocZero(entry->context,
											sizeof(CourierColumn) * desc->natts);
	entry->ncolumns = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		CourierColumn *column = &entry->columns[entry->ncolumns];
		Oid			output;
		bool		is_varlena;
		bool		in_key;

		in_key = bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber,
							   key);

		/* a generated value is only sent if the row is found by it */
		if (att->attisdropped || (att->attgenerated && !in_key))
			continue;

		column->attnum = att->attnum;
		column->length = att->attlen;
		column->by_value = att->attbyval;
		column->key = entry->whole_row || in_key;
		getTypeOutputInfo(att->atttypid, &output, &is_varlena);
		column->kind = output_kind(output);
		fmgr_info_cxt(output, &column->output, entry->context);
		type_settings(att->atttypid, &plain, &guc);
		entry->ncolumns++;
	}
	entry->needs_settings = plain || guc;
	entry->needs_gucs = guc;
}

static char
replica_identity(CourierRelation *entry, Relation published)
{
	if (entry->whole_row)
		return REPLICA_IDENTITY_FULL;
	if (!entry->has_key)
		return REPLICA_IDENTITY_NOTHING;
	return published->rd_rel->relreplident;
}

/* pgoutput's Relation message, with 0 as the relation's id. */
static bytea *
build_definition(CourierRelation *entry, Relation rel, Relation published)
{
	StringInfoData message;
	TupleDesc	desc = RelationGetDescr(rel);
	char	   *schema = get_namespace_name(get_rel_namespace(entry->published));
	char	   *name = get_rel_name(entry->published);

	initStringInfo(&message);
	appendStringInfoSpaces(&message, VARHDRSZ);
	pq_sendbyte(&message, LOGICAL_REP_MSG_RELATION);
	pq_sendint32(&message, 0);
	appendBinaryStringInfo(&message, schema, strlen(schema) + 1);
	appendBinaryStringInfo(&message, name, strlen(name) + 1);
	pq_sendbyte(&message, replica_identity(entry, published));
	pq_sendint16(&message, entry->ncolumns);
	for (int i = 0; i < entry->ncolumns; i++)
	{
		CourierColumn *column = &entry->columns[i];
		Form_pg_attribute att = TupleDescAttr(desc, column->attnum - 1);

		pq_sendbyte(&message,
					(column->key ? COLUMN_IS_KEY : 0) |
					(att->attgenerated ? COLUMN_IS_GENERATED : 0));
		appendBinaryStringInfo(&message, NameStr(att->attname),
							   strlen(NameStr(att->attname)) + 1);
		pq_sendint32(&message, att->atttypid);
		pq_sendint32(&message, att->atttypmod);
	}
	SET_VARSIZE(message.data, message.len);
	return (bytea *) message.data;
}

/*
 * Gives the entry the shape its definition has: the one it had before if
 * that still fits (an ANALYZE invalidates too), one this transaction has
 * brought up already (for another partition), one from the catalog, or a new
 * one, which the transaction will store when it commits.
 */
static void
assign_shape(CourierRelation *entry, const CourierRelation *previous)
{
	bytea	   *definition = entry->definition;

	entry->shapes = courier_shapes_oid();
	if (previous->definition != NULL &&
		previous->shapes == entry->shapes &&
		VARSIZE(previous->definition) == VARSIZE(definition) &&
		memcmp(VARDATA(previous->definition), VARDATA(definition),
			   VARSIZE(definition) - VARHDRSZ) == 0)
	{
		entry->shape = previous->shape;
		entry->shape_stored = previous->shape_stored;
		entry->shape_listed = previous->shape_listed;
		return;
	}

	if (courier_shape_find_mentioned(entry->published, definition,
									 &entry->shape))
		return;
	entry->shape_stored = courier_shape_find(entry->published, definition,
											 &entry->shape);
	if (!entry->shape_stored)
		entry->shape = courier_shape_next_id();
}

/*
 * Builds the entry anew.  It is assembled aside and installed at the end, so
 * that an error on the way leaves the old one, which stays invalid; so does
 * an invalidation that arrives meanwhile.
 */
static void
build_entry(CourierRelation *entry, Relation rel)
{
	CourierRelation fresh = {0};
	MemoryContext old_context = entry->context;
	uint64		before = invalidations;
	Relation	published;
	bytea	   *definition;

	fresh.relid = entry->relid;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "pg_courier relation",
										  ALLOCSET_SMALL_SIZES);
	fresh.published = published_relation(rel);
	published = open_published(fresh.published, rel);
	fill_columns(&fresh, rel, published);
	definition = build_definition(&fresh, rel, published);
	if (published != rel)
		RelationClose(published);
	fresh.definition = (bytea *)
		MemoryContextAlloc(fresh.context, VARSIZE(definition));
	memcpy(fresh.definition, definition, VARSIZE(definition));
	assign_shape(&fresh, entry);
	courier_filters_build(&fresh, rel);
	fresh.valid = invalidations == before;

	MemoryContextSetParent(fresh.context, CacheMemoryContext);
	*entry = fresh;
	if (old_context != NULL)
		MemoryContextDelete(old_context);
}
