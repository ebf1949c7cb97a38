// Package schemagen makes random schemas and random streams of statements for
// them. It does no I/O: the same seed gives the same schema and the same stream,
// and the test that runs them compares the sides in the end.
//
// A Schema is one namespace with the types, tables and functions in it, as the
// source has it and as the target has it: other column orders, columns that were
// dropped, columns of its own, other partitions, wider types. What the streams do
// is bound by what docs/tables.md and docs/filters.md promise. For example, a
// table without a key is inserted into and truncated, and no more.
//
// Steps name the session that they run in. One goroutine runs them one after the
// other, so that a stream means the same each time; a session that would wait for
// another one gives up soon, as do statements that violate a constraint. A
// statement that fails is a part of the stream.
package schemagen
