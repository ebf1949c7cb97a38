/*
 * shape.c
 *	  The catalog of row shapes, courier.shape.
 *
 * A queued message names a shape instead of carrying names and types of its
 * columns.  A shape is stored by the transaction that first uses it, at its
 * PRE_COMMIT together with its changes, so whoever sees the changes sees the
 * shape, and a savepoint's rollback can't take it away.  Two transactions
 * that meet a new table at once store two shapes of the same definition: a
 * little waste, and no lock.
 *
 * The definitions in the catalog have 0 in place of the relation's id, so
 * that equal shapes are equal bytes.
 */
#include "pg_courier.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

enum
{
	SHAPE_ID = 1,
	SHAPE_RELATION,
	SHAPE_DEFINITION,
	SHAPE_COLUMNS = SHAPE_DEFINITION
};

/* A shape this transaction will store. */
typedef struct MentionedShape
{
	Oid			relid;			/* of the cache entry */
	Oid			published;
	uint32		id;
	bytea	   *definition;
} MentionedShape;

static List *mentioned = NIL;	/* in TopTransactionContext */
static bool mentioned_stored = false;	/* all changes may have been undone */
static uint64 transaction_number = 1;

static Oid
courier_relation_oid(const char *name)
{
	Oid			schema = get_namespace_oid(COURIER_SCHEMA, false);
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s.%s\" does not exist",
						COURIER_SCHEMA, name),
				 errhint("The extension is damaged; drop and create it again.")));
	return relid;
}

/* Tells one installation of the extension from the next. */
Oid
courier_shapes_oid(void)
{
	return courier_relation_oid("shape");
}

/* Looks for a shape that this transaction is going to store. */
bool
courier_shape_find_mentioned(Oid relid, bytea *definition, uint32 *id)
{
	ListCell   *lc;

	foreach(lc, mentioned)
	{
		MentionedShape *shape = lfirst(lc);

		if (shape->published == relid &&
			VARSIZE(shape->definition) == VARSIZE(definition) &&
			memcmp(VARDATA(shape->definition), VARDATA(definition),
				   VARSIZE(definition) - VARHDRSZ) == 0)
		{
			*id = shape->id;
			return true;
		}
	}
	return false;
}

/*
 * Looks for a committed shape of this definition.  The latest snapshot is
 * used, as a REPEATABLE READ transaction may be older than the shape.
 */
bool
courier_shape_find(Oid relid, bytea *definition, uint32 *id)
{
	Relation	shapes = table_open(courier_relation_oid("shape"),
									AccessShareLock);
	Oid			index = courier_relation_oid("shape_relation_idx");
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, SHAPE_RELATION, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(shapes, index, true, snapshot, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, SHAPE_DEFINITION,
										 RelationGetDescr(shapes), &isnull);
		bytea	   *stored = DatumGetByteaPP(value);

		if (VARSIZE_ANY_EXHDR(stored) == VARSIZE(definition) - VARHDRSZ &&
			memcmp(VARDATA_ANY(stored), VARDATA(definition),
				   VARSIZE_ANY_EXHDR(stored)) == 0)
		{
			*id = (uint32) DatumGetInt64(heap_getattr(tuple, SHAPE_ID,
													  RelationGetDescr(shapes),
													  &isnull));
			found = true;
		}
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(shapes, AccessShareLock);
	return found;
}

uint32
courier_shape_next_id(void)
{
	return (uint32) nextval_internal(courier_relation_oid("shape_id_seq"),
									 false);
}

/* Notes that this transaction uses the relation's shape. */
void
courier_shape_mention(CourierRelation *relation)
{
	MemoryContext old_context;
	MentionedShape *shape;

	if (likely(relation->shape_stored ||
			   relation->shape_listed == transaction_number))
		return;

	old_context = MemoryContextSwitchTo(TopTransactionContext);
	shape = palloc(sizeof(MentionedShape));
	shape->relid = relation->relid;
	shape->published = relation->published;
	shape->id = relation->shape;
	shape->definition = (bytea *) palloc(VARSIZE(relation->definition));
	memcpy(shape->definition, relation->definition,
		   VARSIZE(relation->definition));
	mentioned = lappend(mentioned, shape);
	MemoryContextSwitchTo(old_context);
	relation->shape_listed = transaction_number;
}

/* Is the shape at this place of the list there before as well? */
static bool
is_repeated(int place)
{
	MentionedShape *shape = list_nth(mentioned, place);

	for (int i = 0; i < place; i++)
		if (((MentionedShape *) list_nth(mentioned, i))->id == shape->id)
			return true;
	return false;
}

/* Stores the shapes this transaction brought up; called at PRE_COMMIT. */
void
courier_shape_store_mentioned(void)
{
	Relation	shapes;

	if (likely(mentioned == NIL))
		return;

	shapes = table_open(courier_relation_oid("shape"), RowExclusiveLock);
	for (int i = 0; i < list_length(mentioned); i++)
	{
		MentionedShape *shape = list_nth(mentioned, i);
		Datum		values[SHAPE_COLUMNS];
		bool		nulls[SHAPE_COLUMNS] = {0};
		HeapTuple	tuple;

		if (is_repeated(i))
			continue;			/* partitions share shapes */
		values[SHAPE_ID - 1] = Int64GetDatum(shape->id);
		values[SHAPE_RELATION - 1] = ObjectIdGetDatum(shape->published);
		values[SHAPE_DEFINITION - 1] = PointerGetDatum(shape->definition);
		tuple = heap_form_tuple(RelationGetDescr(shapes), values, nulls);
		CatalogTupleInsert(shapes, tuple);
		heap_freetuple(tuple);
	}
	table_close(shapes, RowExclusiveLock);
	mentioned_stored = true;
}

/*
 * The transaction has ended.  After a PREPARE the shapes are not committed
 * yet, so the next transaction stores them again.
 */
void
courier_shape_end_transaction(bool committed)
{
	if (committed && mentioned_stored)
	{
		ListCell   *lc;

		foreach(lc, mentioned)
		{
			MentionedShape *shape = lfirst(lc);
			CourierRelation *relation = courier_relation_find(shape->relid);

			if (relation != NULL && relation->shape == shape->id)
				relation->shape_stored = true;
		}
	}
	mentioned = NIL;
	mentioned_stored = false;
	transaction_number++;
}
