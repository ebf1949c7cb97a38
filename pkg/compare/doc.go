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
// Both sides must sort keys alike, or a row could fall into no range that is read
// again. Where their collations are not the same, in the same version, texts are
// compared byte by byte, in an order that no index has. Rows are looked up by
// equality of their key.
//
// Memory is bounded by the number of ranges, by a batch of rows, and by the keys
// that are kept for the answer and for the repair.
//
// A row has two hashes of 64 bits, of which a range has the sums, so what differs
// seems equal once in 2^128.
package compare
