package chunk

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Query runs one statement and returns its rows, of so many columns, as text: on
// this database or, over a link, on a node.
type Query func(ctx context.Context, sql string, columns int) ([]session.Row, error)

// Local is a Query on the session's own database.
func Local(s session.Session) Query {
	return func(ctx context.Context, sql string, _ int) ([]session.Row, error) { return s.Query(ctx, sql) }
}

// Leaf is an ordinary table with rows of its own: a table, or a partition of one.
type Leaf struct {
	OID      uint32
	Name     string // quoted, with its schema
	Filenode uint32 // another one later: it was rewritten, and rows are elsewhere
	Blocks   int64
	Bytes    int64 // of rows, those out of line included
	Rows     int64 // as last analyzed; -1 if never
}

// PageRange is a part of a leaf: its pages from From up to, not including, To.
type PageRange struct {
	Leaf     uint32
	From, To int64
}

// Leaves lists the leaves of a table by its OID, which is a number or an
// expression. The blocks are those there are now: a snapshot taken before sees no
// row behind them.
func Leaves(ctx context.Context, query Query, table string) ([]Leaf, error) {
	rows, err := query(ctx, fmt.Sprintf(`SELECT c.oid,
		pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
		coalesce(pg_catalog.pg_relation_filenode(c.oid), 0),
		pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
		pg_catalog.pg_table_size(c.oid), c.reltuples::pg_catalog.int8
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND (c.oid = (%[1]s)::pg_catalog.oid
		   OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree((%[1]s)::pg_catalog.oid::pg_catalog.regclass)))
		ORDER BY c.oid`, table), 6)
	if err != nil {
		return nil, fmt.Errorf("list the pages of a table: %w", err)
	}
	leaves := make([]Leaf, len(rows))
	for i, row := range rows {
		l := &leaves[i]
		l.Name = string(row[1])
		var numbers [5]int64
		for n, column := range []int{0, 2, 3, 4, 5} {
			if numbers[n], err = strconv.ParseInt(string(row[column]), 10, 64); err != nil {
				return nil, fmt.Errorf("list the pages of a table: %w", err)
			}
		}
		l.OID, l.Filenode = uint32(numbers[0]), uint32(numbers[1])
		l.Blocks, l.Bytes, l.Rows = numbers[2], numbers[3], numbers[4]
	}
	return leaves, nil
}

// Pages cuts a leaf into ranges of about so many bytes, values out of line
// included. An empty leaf has none.
func (l *Leaf) Pages(bytes int64) []PageRange {
	step := l.step(bytes)
	ranges := make([]PageRange, 0, (l.Blocks+step-1)/step)
	for from := int64(0); from < l.Blocks; from += step {
		ranges = append(ranges, PageRange{Leaf: l.OID, From: from, To: min(from+step, l.Blocks)})
	}
	return ranges
}

// step is how many blocks hold so many bytes; every block counts the same.
func (l *Leaf) step(bytes int64) int64 {
	perBlock := max(l.Bytes/max(l.Blocks, 1), 1)
	return max(bytes/perBlock, 1)
}

// EstimatedRows is how many rows a range may hold; -1 if it is not known.
func (l *Leaf) EstimatedRows(r PageRange) int64 {
	if l.Rows < 0 || l.Blocks == 0 {
		return -1
	}
	return l.Rows * (r.To - r.From) / l.Blocks
}

// Bounds are the two parameters of the condition that the package's comment shows.
func (r PageRange) Bounds() (from, to string) {
	return fmt.Sprintf("(%d,0)", r.From), fmt.Sprintf("(%d,0)", r.To)
}

// Without is Pages but for the ranges that are done already, in any order.
func (l *Leaf) Without(done []PageRange, bytes int64) []PageRange {
	done = slices.Clone(done)
	slices.SortFunc(done, func(a, b PageRange) int { return cmp.Compare(a.From, b.From) })
	step := l.step(bytes)
	var ranges []PageRange
	from := int64(0)
	for _, d := range append(done, PageRange{From: l.Blocks, To: l.Blocks}) {
		end, reached := min(d.From, l.Blocks), max(from, min(d.From, l.Blocks))
		for ; from < end; from += step {
			ranges = append(ranges, PageRange{Leaf: l.OID, From: from, To: min(from+step, end)})
		}
		from = max(reached, d.To)
	}
	return ranges
}
