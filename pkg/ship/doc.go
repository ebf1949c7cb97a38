// Package ship moves one subscription's changes from the queue to its node.
//
// A Shipper is used by one goroutine. Its work is a chain of units; a unit is
// what one transaction on the target applies: some whole source transactions and
// the move of courier_target.progress from the position before them to the one
// behind. Normally a unit is one string of statements. A source transaction too
// large for one string is streamed as several pieces inside an explicit
// transaction on the target.
//
// While a piece is in flight the next one is read and rendered.
//
// States, and what a crash in them costs:
//
//	detached   no connection to the node, or one whose state is not known.
//	           Attach connects, creates courier_target if it is missing, and
//	           asks the target for its progress.
//	copying    tables that the subscription has to copy are written chunk by
//	           chunk, and units are shipped in between; see copy.go. A crash
//	           loses the chunks in flight, which are copied again.
//	streaming  units are shipped. A crash loses at most the knowledge of whether
//	           the unit in flight was committed; Attach learns it.
//	row by row the same, but each change is a statement of its own, because the
//	           set-based form of a unit failed. Left again behind that unit.
//	passing    a transaction is at fault that is to be set aside. It is stored as
//	           a dead letter; a unit then moves the progress behind it and applies
//	           nothing. See letter.go for the steps and what a crash between them
//	           costs. Left again behind that unit.
//	stopped    a unit fails row by row too. Nothing is skipped: the transactions
//	           before it are applied, it and those behind wait. The caller holds
//	           the StopError and decides when to try again.
//
//	needs resync
//	           the queue does not have, or no longer keeps, what follows the
//	           target's progress: attaching and every read of the queue find out.
//	           Nothing is shipped.
//
// The queue is emptied behind subscription_state.durable_position, which moves only
// to what is flushed on the target, and is set back only by a shipper that finds a
// restored target (see hold.go).
//
// Between two units, dead letters are retried that somebody wants retried, each in
// a target transaction of its own.
//
// What is shipped is counted in memory, in Statistics, when the target has committed
// it, and added to the source's tables with the note of the progress, about once a
// second: a crash loses that second of it. A unit whose outcome is not known counts
// when the progress says that it was committed. courier.ship() counts in its caller's
// transaction.
//
// Sequences are not in the queue. sequence.go says how those of the target are
// kept ahead of what its rows hold.
//
// Progress on the target moves by compare-and-set inside the unit's transaction.
// So a unit can't be applied twice, whoever ships it however often; a lock on the
// source only keeps two shippers from wasting each other's work.
package ship
