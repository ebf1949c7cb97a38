// Package compare finds the rows in which the tables of a subscription differ
// between the source and its node, while both are written to, and ships them
// again. It runs in the command courier and, through ext/engine, in
// courier.compare() and courier.repair(). Only keys of ranges and hashes travel.
//
// A table goes through three steps. Each leaves less to look at.
//
//	scan    One pass over each side at the same time, in pieces of some pages.
//	        Rows fall into ranges of the key, whose bounds are a sample of the
//	        source's keys; each side gives count and two sums of hashes a range.
//	narrow  The ranges that differ are read again by their key, in batches: the
//	        source first, then, once the node has applied what the source showed,
//	        the node. Those that still differ are split, down to ranges of some
//	        rows, whose keys and hashes are listed.
//	settle  The rows that differ are read again by key: source, wait, node, over
//	        and over, until each is decided.
//
// What decides about a row (S is a read of the source, T one of the node, at a
// moment when it had applied all that the S before it saw):
//
//	equal      an S and the T behind it are the same
//	missing    S finds a version of the row, the next S the same version, and the
//	           T between them nothing
//	different  the same, and the T between them another row
//	extra      T finds a version, the next T the same version, and the S between
//	           them nothing
//	unsettled  none of these after some rounds: the row is changed all the time
//
// So a change on its way is never reported: the node moves through the states of
// the source, and if the source's row was the same version before and after T,
// then the node had to have it at T. A version is known by the transaction that
// made it (xmin). Where the node's table is a view or a foreign table, an extra
// row's version is its hash.
//
// What the answers say does not depend on how the two servers sort: a row that
// falls into other ranges there only costs a closer look. Rows are found by
// equality of their key.
//
// Memory is bounded by the number of ranges, by a batch of rows, and by the keys
// that are kept for the answer and for the repair.
//
// A hash has 64 bits, of which a range has two independent sums, so a range that
// differs seems equal once in 2^128, a row in a list once in 2^64.
package compare
