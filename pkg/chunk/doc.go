// Package chunk plans how the rows of a table are read in parts of about one size.
//
// By pages: a range of a table's pages, read with
//
//	SELECT … FROM ONLY leaf WHERE ctid >= $1::tid AND ctid < $2::tid
//
// costs a scan of those pages and nothing else, whatever the rows are like. A row
// that is updated may move to another page, so ranges read at different moments
// may hold a row twice or not at all: who reads them so has to apply the changes
// made in between by key. Only ordinary tables have pages: a partitioned table is
// planned leaf by leaf.
//
// By key: a range of a unique key, found along its index. A row stays in its range
// for as long as its key stays what it is, and both sides of a comparison can be
// asked for the same range. Both must order the key's values in the same way: see
// KeyColumn.
//
// The package reads catalogs and indexes, and writes nothing. It may be imported by
// whatever copies, compares or moves tables.
package chunk
