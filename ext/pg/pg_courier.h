/*
 * pg_courier.h
 *	  What the C files of pg_courier share.
 *
 * The path of a change: capture.c (triggers) has capture_order.c find its place
 * and asks relation_cache.c how to write a row, message.c writes it into
 * transaction_buffer.c, and at PRE_COMMIT queue_writer.c stores the buffer in
 * the queue.
 */
#ifndef PG_COURIER_H
#define PG_COURIER_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "compat.h"

/* Name of the row trigger: '!' sorts it before a user's AFTER triggers. */
#define COURIER_ROW_TRIGGER "!pg_courier_row"

/* … and what the names of triggers begin with that hold a row filter. */
#define COURIER_FILTER_TRIGGER "!pg_courier_filter_"

/* Of a message that begins with the results of row filters. */
#define COURIER_MSG_FILTERED 'F'

#define COURIER_SCHEMA "courier"

/* Queue rows carry this much of a transaction's messages: one heap page. */
#define COURIER_CHUNK_SIZE 8000

/* Segments of the queue. */
#define COURIER_SEGMENTS 3

/* Columns of a segment. */
enum
{
	QUEUE_K = 1,
	QUEUE_XID,
	QUEUE_SEQ,
	QUEUE_ORIGIN,
	QUEUE_CLOCK,
	QUEUE_CHANGES,
	QUEUE_DATA,
	QUEUE_COLUMNS = QUEUE_DATA
};

/* What happens when the queue has reached courier.queue_max_size. */
typedef enum CourierFullPolicy
{
	COURIER_FULL_BLOCK,			/* who writes fails */
	COURIER_FULL_DETACH			/* the slowest subscription is detached */
} CourierFullPolicy;

/* ---- init.c: settings ---- */
extern int	courier_buffer_memory;	/* kB */
extern bool courier_capture_ddl_enabled;
extern char *courier_engine_library;	/* path without suffix, or "" */
extern int	courier_queue_full_policy;
extern int	courier_queue_max_size; /* MB, 0: no limit */
extern int	courier_segment_age;	/* s, 0: no limit */
extern int	courier_segment_size;	/* kB */
extern bool courier_workers;

/* ---- relation_cache.c: how to write a row of a relation ---- */

/* How a column's value becomes text. */
typedef enum CourierOutput
{
	COURIER_OUTPUT_FUNCTION,	/* call the type's output function */
	COURIER_OUTPUT_INT2,
	COURIER_OUTPUT_INT4,
	COURIER_OUTPUT_INT8,
	COURIER_OUTPUT_VARLENA		/* the value's bytes are its text */
} CourierOutput;

typedef struct CourierColumn
{
	AttrNumber	attnum;
	int16		length;			/* pg_type.typlen */
	bool		by_value;
	bool		key;			/* part of the replica identity */
	CourierOutput kind;
	FmgrInfo	output;
} CourierColumn;

typedef struct CourierFilter CourierFilter; /* row_filter_state.c */

typedef struct CourierRelation
{
	Oid			relid;			/* hash key: the table that fired */
	Oid			published;		/* itself, or its partitioned root */
	bool		valid;
	uint32		shape;			/* courier.shape.id */
	Oid			shapes;			/* OID of courier.shape then */
	bool		shape_stored;	/* is that row committed? */
	uint64		shape_listed;	/* transaction that will store it */
	bool		has_key;
	bool		whole_row;		/* REPLICA IDENTITY FULL and no key */
	bool		needs_settings; /* output depends on plain settings */
	bool		needs_gucs;		/* … on search_path or lc_monetary */
	int			ncolumns;
	CourierColumn *columns;
	bytea	   *definition;		/* pgoutput Relation message */
	int			nfilters;
	CourierFilter *filters;
	ExprContext *filter_context;
	bool		moves_in;		/* some filter: old row out, new row in */
	MemoryContext context;		/* owns columns, definition and filters */
} CourierRelation;

extern void courier_relation_cache_init(void);
extern CourierRelation *courier_relation_lookup(Relation rel);
extern CourierRelation *courier_relation_find(Oid relid);

/* ---- row_filter_state.c: which filters let a row in ---- */
extern int32 courier_filter_id(const Trigger *trigger);
extern Node *courier_filter_node(const Trigger *trigger);
extern void courier_filters_build(CourierRelation *entry, Relation rel);
extern void courier_filters_apply(CourierRelation *relation,
								  TupleTableSlot *old_row,
								  TupleTableSlot *new_row);
extern void courier_filters_assume_old(CourierRelation *relation);
extern void courier_filters_pass_old(CourierRelation *relation);
extern void courier_put_filter_results(CourierRelation *relation);

/* ---- shape.c: the catalog of row shapes ---- */
extern Oid	courier_shapes_oid(void);
extern bool courier_shape_find(Oid relid, bytea *definition, uint32 *id);
extern bool courier_shape_find_mentioned(Oid relid, bytea *definition,
										 uint32 *id);
extern uint32 courier_shape_next_id(void);
extern void courier_shape_mention(CourierRelation *relation);
extern void courier_shape_store_mentioned(void);
extern void courier_shape_end_transaction(bool committed);

/* ---- transaction_buffer.c: this transaction's messages ---- */

/* The log: frames of a length in network order and a message … */
#define COURIER_FRAME_HEADER sizeof(uint32)

/* … or, behind this, of the place (uint64) of the messages that follow. */
#define COURIER_PLACE_FRAME PG_UINT32_MAX

extern void courier_buffer_init(void);
extern void courier_buffer_place(uint64 next);
extern void courier_message_begin(void);
extern void courier_require_size(Size length);
extern void courier_message_end(void);
extern void courier_put_byte(char c);
extern void courier_put_int16(int16 value);
extern void courier_put_int32(int32 value);
extern void courier_put_int64(int64 value);
extern void courier_put_bytes(const char *data, Size length);
extern char *courier_put_reserve(Size length);
extern void courier_put_advance(Size length);
extern Size courier_put_tell(void);
extern void courier_put_int32_at(Size where, int32 value);

extern bool courier_buffer_is_empty(void);
extern bool courier_buffer_in_order(void);
extern uint64 courier_buffer_length(void);
extern void courier_buffer_copy_at(uint64 position, char *dest, Size length);
extern void courier_buffer_close(void);
extern void courier_buffer_reset(void);

/* ---- buffer_reader.c: the buffer, a message at a time, at PRE_COMMIT ---- */
typedef struct CourierBufferReader CourierBufferReader;
extern CourierBufferReader *courier_buffer_read(void);
extern bool courier_buffer_next_frame(CourierBufferReader *reader,
									  Size *length);
extern void courier_buffer_copy(CourierBufferReader *reader, char *dest,
								Size length);

/* ---- capture.c: the trigger ---- */
extern void courier_capture_change(Relation rel, TupleTableSlot *old_row,
								   TupleTableSlot *new_row);

/* ---- capture_order.c: changes in the order in which they were made ---- */
extern HTAB *courier_transaction_table(const char *name, Size key, Size entry);
extern void courier_order_init(void);
extern bool courier_order_take(Relation rel, TupleTableSlot *old_row,
							   TupleTableSlot *new_row);
extern bool courier_order_is_open(CommandId command);
extern bool courier_order_writes_further_out(void);
extern CommandId courier_order_copying(void);
extern void courier_order_now(void);
extern void courier_order_last(void);
extern void courier_order_reset(void);

/* The header of a row that a heap has given. */
static inline HeapTupleHeader
courier_row_header(TupleTableSlot *slot)
{
	return ((HeapTupleTableSlot *) slot)->tuple->t_data;
}

/*
 * The command of this transaction that has made this version of a row.  One
 * that was frozen at once does not tell if it was changed since.
 */
static inline CommandId
courier_row_made_by(HeapTupleHeader row)
{
	if (unlikely(HeapTupleHeaderXminFrozen(row)) &&
		!(row->t_infomask & HEAP_XMAX_INVALID))
		return courier_order_copying();
	return (row->t_infomask & HEAP_COMBOCID) ? HeapTupleHeaderGetCmin(row) :
		HeapTupleHeaderGetRawCommandId(row);
}

/* The one that has changed or deleted it. */
static inline CommandId
courier_row_changed_by(HeapTupleHeader row)
{
	return (row->t_infomask & HEAP_COMBOCID) ? HeapTupleHeaderGetCmax(row) :
		HeapTupleHeaderGetRawCommandId(row);
}

/* A version of a row. */
typedef struct CourierVersion
{
	Oid			relid;
	BlockNumber block;
	uint32		offset;
} CourierVersion;

static inline CourierVersion
courier_row_version(Relation rel, TupleTableSlot *slot)
{
	return (CourierVersion)
	{
		.relid = RelationGetRelid(rel),
		.block = ItemPointerGetBlockNumber(&slot->tts_tid),
		.offset = ItemPointerGetOffsetNumber(&slot->tts_tid),
	};
}

/* ---- capture_key.c: keys that are left and taken meanwhile ---- */
extern bool courier_key_has_left(Relation rel, TupleTableSlot *old_row);
extern void courier_key_take(Relation rel, TupleTableSlot *old_row,
							 TupleTableSlot *new_row);
extern void courier_key_abort_subtransaction(SubTransactionId mine);
extern void courier_key_reset(void);

/* ---- capture_wait.c: changes that wait for others to be captured ---- */
extern bool courier_wait_needed(Relation rel, TupleTableSlot *slot);
extern bool courier_wait_take(Relation rel, TupleTableSlot *old_row,
							  TupleTableSlot *new_row, CommandId command);
extern void courier_wait_settle(CommandId command);
extern void courier_wait_abort_subtransaction(SubTransactionId mine);
extern void courier_wait_reset(void);

/* ---- tuple.c: rows in messages ---- */
extern void courier_put_tuple(CourierRelation *relation,
							  Datum *values, bool *nulls,
							  Datum *old_values, bool *old_nulls);
extern void courier_put_key(CourierRelation *relation,
							Datum *values, bool *nulls);

/* ---- message.c: pgoutput messages ---- */
extern bool courier_key_changed(CourierRelation *relation,
								Datum *old_values, bool *old_nulls,
								Datum *new_values, bool *new_nulls);
extern void courier_write_insert(CourierRelation *relation,
								 Datum *values, bool *nulls, char kind);
extern void courier_write_update(CourierRelation *relation,
								 Datum *old_values, bool *old_nulls,
								 Datum *new_values, bool *new_nulls);
extern void courier_write_delete(CourierRelation *relation,
								 Datum *values, bool *nulls);
extern void courier_write_event(const char *channel,
								const char *payload, Size length);

/* ---- ddl_statement.c: what can be replicated as DDL ---- */
extern const char *courier_ddl_refusal(Node *stmt, const char **hint);
extern const char *courier_ddl_differing_column(Node *stmt);
extern bool courier_ddl_is_local(Node *stmt);
extern bool courier_ddl_is_concurrent(Node *stmt);

/* ---- ddl.c: commands in the queue ---- */

/* Who ran a command, and with which settings. */
typedef struct CourierDdlOrigin
{
	char	   *role;
	char	  **settings;
} CourierDdlOrigin;

extern void courier_ddl_note_origin(CourierDdlOrigin *origin);
extern void courier_write_ddl(const CourierDdlOrigin *origin, ArrayType *sets,
							  const char *command, Size length);
extern ArrayType *courier_ddl_running_sets(void);

/* ---- ddl_capture.c: event triggers ---- */
extern void courier_ddl_end_transaction(void);

/* ---- transaction_end.c ---- */
extern void courier_transaction_end_init(void);

/* ---- shared.c: shared memory, if preloaded ---- */
extern void courier_shared_init(void);
extern bool courier_preloaded(void);
extern void courier_wakeup_signal(bool queued);
extern uint64 courier_shared_signals(void);
extern uint64 courier_shared_commits(void);
extern int	courier_waiter_take(void);
extern void courier_waiter_arm(int waiter);
extern void courier_waiter_release(int waiter);

/* ---- wakeup.c: waiting for changes ---- */
extern uint64 courier_wakeup_count(void);
extern bool courier_wakeup_wait(uint64 seen, long timeout_ms,
								uint32 wait_event);
extern uint32 courier_wakeup_event(void);

/* ---- queue_segment.c: which segment is written to, and is there room ---- */
extern void courier_queue_segment_init(void);
extern Oid	courier_current_segment(void);
extern void courier_require_room(Relation segment, Relation *indexes,
								 int nindexes, TimestampTz now, Size added);

/* ---- queue_writer.c ---- */
extern void courier_flush_to_queue(void);
extern void courier_queue_missing(void) pg_attribute_noreturn();

/* ---- queue_look.c ---- */
extern bool courier_queue_moved(struct varlena **position);

/* ---- durability.c ---- */
extern void courier_flush_transaction(uint64 xid);
extern XLogRecPtr courier_flushed(TimeLineID *timeline);

/* ---- remote_link.c ---- */
extern void courier_close_connections(void);

#endif							/* PG_COURIER_H */
