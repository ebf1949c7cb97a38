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
 * A command that still writes while others, inside it, make their changes is
 * different: it writes rows before and behind theirs.  It takes the place
 * behind them, for they made way for its rows, if anything.  If however they
 * changed one of its rows, they wait (capture_wait.c), and if they took the key
 * of one, that goes first (capture_key.c).
 */
#include "pg_courier.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* A command that has not ended yet; others run inside it. */
typedef struct RunningCommand
{
	CommandId	command;
	bool		writes;			/* more rows, perhaps; else, triggers fire */
	bool		copies;			/* COPY: both */
	int			nest_level;		/* of the (sub)transaction it is in */
} RunningCommand;

/* A command that has another place than its number says. */
typedef struct PlacedCommand
{
	CommandId	command;		/* hash key */
	uint64		place;
} PlacedCommand;

static RunningCommand *running = NULL;
static int	nrunning = 0;
static int	max_running = 0;

static HTAB *places = NULL;
static uint64 highest_place = 0;

/* The command of the last change; most come after one of their own. */
static CommandId last_command = InvalidCommandId;
static uint64 last_place = 0;

/*
 * The statement that loads the library, else 0, and the last command that may
 * have begun before.
 */
static TimestampTz loaded_in = 0;
static CommandId last_unseen = 0;

static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* A hash table that goes with the transaction. */
HTAB *
courier_transaction_table(const char *name, Size key, Size entry)
{
	HASHCTL		control = {
		.keysize = key,
		.entrysize = entry,
		.hcxt = TopTransactionContext,
	};

	return hash_create(name, 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* ---- places ---- */

/* May commands be running that began before the library was loaded? */
static bool
runs_unseen(void)
{
	if (likely(loaded_in == 0))
		return false;
	if (loaded_in == GetCurrentStatementStartTimestamp())
		return true;
	loaded_in = 0;
	courier_wait_settle(InvalidCommandId);
	return false;
}

static PlacedCommand *
find_place(CommandId command)
{
	if (likely(places == NULL))
		return NULL;
	return hash_search(places, &command, HASH_FIND, NULL);
}

static uint64
place_of_number(CommandId command)
{
	return ((uint64) command + 1) << 32;
}

/* The place of this command is behind all that was captured so far. */
static uint64
place_last(CommandId command)
{
	PlacedCommand *entry;

	if (places == NULL)
		places = courier_transaction_table("pg_courier places of commands",
										   sizeof(CommandId),
										   sizeof(PlacedCommand));
	highest_place = Max(highest_place + 1, place_of_number(command));
	entry = hash_search(places, &command, HASH_ENTER, NULL);
	entry->place = highest_place;
	return entry->place;
}

/*
 * Is this command running, further out, and are the changes that it has made
 * so far yet to be captured?
 */
bool
courier_order_is_open(CommandId command)
{
	for (int i = nrunning - 1; i >= 0; i--)
		if (running[i].command == command && running[i].writes)
			return find_place(command) == NULL;
	return runs_unseen() && command <= last_unseen &&
		find_place(command) == NULL;
}

/* Does a command write, with others running inside it? */
bool
courier_order_writes_further_out(void)
{
	for (int i = nrunning - 1; i >= 0; i--)
		if (running[i].writes)
			return true;
	return runs_unseen();
}

/* The command of the innermost COPY that runs. */
CommandId
courier_order_copying(void)
{
	for (int i = nrunning - 1; i >= 0; i--)
		if (running[i].copies)
			return running[i].command;
	return InvalidCommandId;
}

static uint64
place_of(CommandId command)
{
	PlacedCommand *entry = find_place(command);

	if (unlikely(entry != NULL))
		return entry->place;
	if (unlikely(courier_order_is_open(command)))
		return place_last(command);
	return place_of_number(command);
}

/* The change to be captured next was made by this command. */
static void
take_place(CommandId command)
{
	if (command != last_command)
	{
		last_place = place_of(command);
		last_command = command;
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

/* What is captured next goes with what was captured last, or behind it. */
void
courier_order_last(void)
{
	courier_buffer_place(highest_place);
	last_command = InvalidCommandId;
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

	if (unlikely(!TTS_IS_BUFFERTUPLE(new_row ? new_row : old_row)))
	{
		courier_order_now();	/* not a heap: no numbers */
		return true;
	}
	command = new_row ? courier_row_made_by(courier_row_header(new_row)) :
		courier_row_changed_by(courier_row_header(old_row));
	take_place(command);
	if (unlikely(courier_key_has_left(rel, old_row)))
	{
		if (new_row != NULL && !courier_wait_take(rel, NULL, new_row, command))
			courier_capture_change(rel, NULL, new_row);
		return false;
	}
	if (courier_wait_take(rel, old_row, new_row, command))
		return false;
	if (new_row != NULL)
		courier_key_take(rel, old_row, new_row);
	return true;
}

/* ---- commands that run ---- */

static void
begin_command(CommandId command, bool writes, bool copies)
{
	if (nrunning == max_running)
	{
		int			larger = Max(16, max_running * 2);

		if (running == NULL)
			running = MemoryContextAlloc(TopMemoryContext,
										 larger * sizeof(RunningCommand));
		else
			running = repalloc(running, larger * sizeof(RunningCommand));
		max_running = larger;
	}
	running[nrunning++] = (RunningCommand)
	{
		.command = command,
		.writes = writes,
		.copies = copies,
		.nest_level = GetCurrentTransactionNestLevel(),
	};
}

/* All triggers of the command have fired; after the outermost all is new. */
static void
end_command(void)
{
	Assert(nrunning > 0);
	nrunning--;
	if (nrunning > 0 || runs_unseen())
		return;
	if (places != NULL)
		hash_destroy(places);
	places = NULL;
	last_command = InvalidCommandId;
}

static bool
writes(QueryDesc *query)
{
	return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
}

static void
run(COURIER_EXECUTOR_RUN_PARAMETERS)
{
	bool		noted = writes(query);
	uint64		place = highest_place;

	if (noted)
		begin_command(query->estate->es_output_cid, true, false);
	if (previous_run)
		previous_run(COURIER_EXECUTOR_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(COURIER_EXECUTOR_RUN_ARGUMENTS);
	if (!noted)
		return;
	nrunning--;
	if (unlikely(highest_place != place))
		place_last(query->estate->es_output_cid);
}

/* Here the triggers fire, unless a foreign key has them fire with others. */
static void
finish(QueryDesc *query)
{
	bool		noted = writes(query);
	CommandId	command = query->estate->es_output_cid;

	if (noted)
		begin_command(command, false, false);
	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
	if (!noted)
		return;
	if ((query->estate->es_top_eflags & EXEC_FLAG_SKIP_TRIGGERS) == 0)
		courier_wait_settle(command);
	end_command();
}

/* COPY writes, and fires triggers, without the executor. */
static void
utility(PlannedStmt *statement, const char *text, bool read_only,
		ProcessUtilityContext context, ParamListInfo parameters,
		QueryEnvironment *environment, DestReceiver *receiver,
		QueryCompletion *completion)
{
	bool		copies = IsA(statement->utilityStmt, CopyStmt);
	CommandId	command = InvalidCommandId;

	(void) runs_unseen();
	if (copies)
	{
		command = GetCurrentCommandId(false);
		begin_command(command, true, true);
	}
	(previous_utility ? previous_utility : standard_ProcessUtility)
		(statement, text, read_only, context, parameters, environment,
		 receiver, completion);
	if (copies)
	{
		courier_wait_settle(command);
		end_command();
	}
}

/* ---- transaction ends ---- */

/* An error has ended what ran in the subtransaction. */
static void
subxact_callback(SubXactEvent event, SubTransactionId mine,
				 SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (nrunning > 0 &&
		   running[nrunning - 1].nest_level >= GetCurrentTransactionNestLevel())
		nrunning--;
	courier_wait_abort_subtransaction(mine);
	courier_key_abort_subtransaction(mine);
}

/* Forgets all at the end of a transaction. */
void
courier_order_reset(void)
{
	nrunning = 0;
	highest_place = 0;
	last_command = InvalidCommandId;
	places = NULL;				/* the memory goes with the transaction */
	courier_wait_reset();
	courier_key_reset();
}

void
courier_order_init(void)
{
	loaded_in = GetCurrentStatementStartTimestamp();
	if (loaded_in != 0)
		last_unseen = GetCurrentCommandId(false);
	RegisterSubXactCallback(subxact_callback, NULL);
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = run;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
