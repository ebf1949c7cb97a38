// Package batch folds changes to their net effect by key, so that a batch costs
// the target one statement a table and kind of change instead of one a row.
//
// Changes go in, in order; segments come out. A TRUNCATE ends the segment before
// it and opens the next. Inside a segment the order of execution is
//
//  1. Truncates, in order
//  2. Deletes, children before parents
//  3. Updates, key kept before key changed
//  4. Inserts and Upserts, parents before children
//  5. Ordered changes of tables that only the whole row identifies
//  6. Events, in order
//
// and gives the same rows as applying the changes one by one. It may pass
// through states the changes did not (two rows that swap a unique value through
// a third one): then a statement fails, and the caller applies the original
// changes one by one. It never succeeds with other rows.
//
// An entity is a row that the segment has touched. It is found by its current
// key and remembers the key it had on the target when the segment began, if it
// was there. Its states and what each operation makes of them:
//
//	state    insert   update   upsert          delete
//	(none)   insert   update   upsert          delete
//	insert   insert   insert   insert          gone
//	update   update   update   upsert/update*  delete of the original key
//	upsert   upsert   upsert   upsert          delete*
//	delete   insert** update   insert**        delete
//	gone     insert   update   insert          gone
//
// (update* if its key has changed, since then the target has it under another
// key; delete* unless the key was another row's on the target; insert** or, with
// Rewrites, update.) An upsert that changes its key leaves a delete of the old one
// behind. Values alias the chunks they were decoded from; nothing is copied but rows
// that merge unchanged values.
package batch
