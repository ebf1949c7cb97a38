/*
 * capture_order.c
 *	  The order in which changes were made, which is not always the order in
 *	  which their triggers fire.
 *
 * AFTER ROW triggers fire when their statement has ended, and what they or
 * BEFORE ROW triggers or functions do in statements of their own fires its
 * triggers first.  So, of
 *
 *		UPDATE list SET … WHERE id IN (1, 2)
 *
 * with a trigger that changes row 2 when row 1 has changed, the first change of
 * row 2 is captured behind the second.  Commands are numbered in a transaction,
 * and each row version tells which made it: the number is the place of a
 * captured change, and the buffer is read back by place.
 *
 * A command whose own changes are all captured later than those of commands
 * that it has run itself, by BEFORE triggers say, is different: its rows were
 * written before and behind theirs.  It takes the place behind them, for they
 * made way for its rows, if anything.  If however they changed one of its
 * rows, they wait, and the row is captured with what it is in the end.  A
 * command of a foreign key (CASCADE, SET NULL) ends before others begin, also
 * if its triggers fire later; it keeps its number.
 *
 * What is noted is forgotten when the client sends the next statement: then all
 * triggers have fired.
 */
#include "pg_courier.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Commands of the present statement, by number. */
typedef struct CommandSet
{
	uint64	   *words;
	Size		nwords;
} CommandSet;

/* A command that has another place than its number says. */
typedef struct MovedCommand
{
	CommandId	command;		/* hash key */
	uint64		place;
} MovedCommand;

static TimestampTz statement = 0;
static CommandId settled = 0;	/* those before it are captured */
static CommandId highest = 0;	/* has been captured */
static uint64 highest_place = 0;
static CommandSet captured = {0};
static CommandSet cascades = {0};
static HTAB *moved = NULL;

/* The command of the last change; most come after one of their own. */
static CommandId last_command = InvalidCommandId;
static uint64 last_place = 0;

static ExecutorStart_hook_type previous_executor_start = NULL;

/* ---- commands ---- */

static bool
has_command(const CommandSet *set, CommandId command)
{
	Size		at = command - settled;

	return command >= settled && at / 64 < set->nwords &&
		(set->words[at / 64] & (UINT64CONST(1) << (at % 64))) != 0;
}

static void
add_command(CommandSet *set, CommandId command)
{
	Size		at = command - settled;

	if (command < settled)
		return;
	if (at / 64 >= set->nwords)
	{
		Size		larger = Max(at / 64 + 1, Max(set->nwords * 2, 8));

		if (set->words == NULL)
			set->words = MemoryContextAllocHuge(TopTransactionContext,
												larger * sizeof(uint64));
		else
			set->words = repalloc_huge(set->words, larger * sizeof(uint64));
		memset(set->words + set->nwords, 0,
			   (larger - set->nwords) * sizeof(uint64));
		set->nwords = larger;
	}
	set->words[at / 64] |= UINT64CONST(1) << (at % 64);
}

static void
forget_commands(CommandSet *set)
{
	if (set->nwords > 64)
	{
		pfree(set->words);
		memset(set, 0, sizeof(CommandSet));
	}
	else if (set->nwords > 0)
		memset(set->words, 0, set->nwords * sizeof(uint64));
}

/*
 * Has this command of the present statement made changes that are yet to be
 * captured, as far as is known?
 */
bool
courier_order_is_open(CommandId command)
{
	return command >= settled && !has_command(&captured, command) &&
		!has_command(&cascades, command);
}

static uint64
place_of_number(CommandId command)
{
	return ((uint64) command + 1) << 32;
}

/* A command's first change is captured behind those of commands it has run. */
static uint64
move_command(CommandId command)
{
	MovedCommand *entry;

	if (moved == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(CommandId),
			.entrysize = sizeof(MovedCommand),
			.hcxt = TopTransactionContext,
		};

		moved = hash_create("pg_courier moved commands", 16, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(moved, &command, HASH_ENTER, NULL);
	entry->place = highest_place + 1;
	return entry->place;
}

static uint64
place_of(CommandId command)
{
	MovedCommand *entry;

	if (likely(highest_place == 0 || command > highest))
		return place_of_number(command);
	if (courier_order_is_open(command))
		return move_command(command);
	if (moved == NULL)
		return place_of_number(command);
	entry = hash_search(moved, &command, HASH_FIND, NULL);
	return entry == NULL ? place_of_number(command) : entry->place;
}

/* The change to be captured next was made by this command. */
static void
take_place(CommandId command)
{
	if (command != last_command)
	{
		last_place = place_of(command);
		last_command = command;
		add_command(&captured, command);
		highest = Max(highest, command);
		highest_place = Max(highest_place, last_place);
	}
	courier_buffer_place(last_place);
}

/* What is captured next happens now: all that was captured precedes it. */
void
courier_order_now(void)
{
	highest_place = Max(highest_place,
						place_of_number(GetCurrentCommandId(false)));
	courier_buffer_place(highest_place);
	last_command = InvalidCommandId;
}

/* ---- the present statement ---- */

static void
begin_statement(void)
{
	courier_wait_settle();
	statement = GetCurrentStatementStartTimestamp();
	forget_commands(&captured);
	forget_commands(&cascades);
	if (moved != NULL)
		hash_destroy(moved);
	moved = NULL;
	last_command = InvalidCommandId;
	settled = highest_place == 0 ? 0 : highest + 1;
}

/* Foreign keys let the triggers of what they do fire with others, later. */
static void
executor_start(QueryDesc *query, int eflags)
{
	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if ((eflags & EXEC_FLAG_SKIP_TRIGGERS) == 0 ||
		query->operation == CMD_SELECT)
		return;
	if (statement != GetCurrentStatementStartTimestamp())
		begin_statement();
	add_command(&cascades, query->estate->es_output_cid);
}

/*
 * Gives the change its place in the order, and says whether it is to be
 * captured as it is.  If not, that has been seen to.  The old row is NULL for an
 * insert, the new one for a delete.
 */
bool
courier_order_take(Relation rel, TupleTableSlot *old_row,
				   TupleTableSlot *new_row)
{
	CommandId	command;

	if (unlikely(statement != GetCurrentStatementStartTimestamp()))
		begin_statement();
	if (unlikely(!TTS_IS_BUFFERTUPLE(new_row ? new_row : old_row)))
	{
		courier_order_now();	/* not a heap: no numbers */
		return true;
	}
	command = new_row ? courier_row_made_by(courier_row_header(new_row)) :
		courier_row_changed_by(courier_row_header(old_row));
	take_place(command);
	return !courier_wait_take(rel, old_row, new_row, command);
}

/* Forgets all at the end of a transaction, with whose memory it goes. */
void
courier_order_reset(void)
{
	statement = 0;
	settled = highest = 0;
	highest_place = 0;
	memset(&captured, 0, sizeof(captured));
	memset(&cascades, 0, sizeof(cascades));
	moved = NULL;
	last_command = InvalidCommandId;
	courier_wait_reset();
}

void
courier_order_init(void)
{
	courier_wait_init();
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
}
