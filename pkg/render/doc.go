// Package render writes a batch as SQL text for the target, in two ways.
//
// Set-based, from the segments of pkg/batch: a statement per table and kind of
// change, with the rows as array literals. This is the fast path; it assumes
// that source and target agree, and fails as a whole where they do not.
//
// Row by row, from the original changes: a statement a change, in order, with a
// policy for conflicts. This is for batches the fast path has failed on.
//
// Statements work with search_path = pg_catalog and standard_conforming_strings
// = on. Every name is quoted; every value is in a literal. Only ship imports
// render; it does no I/O.
package render
