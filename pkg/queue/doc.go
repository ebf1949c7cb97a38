// Package queue reads intervals of the queue.
//
// A position is a snapshot. The interval (P, S] holds what S sees and P did
// not: a fixed set, whatever commits later. It is read in pages, in the order
// of (k, xid, seq), which is dependency order; pages need no open snapshot.
package queue
