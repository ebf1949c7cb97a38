package compare

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// How many rows a range of the scan is to have, and how many ranges there are at
// most. Bounds of any length are walked through one by one to find a range, so
// those are fewer.
const (
	rangeRows         = 1000
	mostRanges        = 4096
	mostVariable      = 256
	unindexedRows     = 5000
	mostUnindexed     = 1024
	sampledBlocks     = 4 // a range, for its bounds
	leastPiece        = 4096
	mostPieces        = 64
	largestPiece      = 131072
	averageRowsABlock = 50 // of a table that nobody has analyzed
)

// leaf is a table of the relation that holds rows.
type leaf struct {
	name   string
	blocks int64
	paged  bool
}

// leaves lists them.
func (r *relation) leaves(ctx context.Context) (leaves []leaf, rows int64, err error) {
	s := r.place.statement()
	s.WriteString(`SELECT c.oid::pg_catalog.regclass, c.relkind = 'r', c.reltuples::pg_catalog.int8, c.relpages,
		CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8 ELSE 0 END
		FROM pg_catalog.pg_class c, (SELECT ` + s.value(r.name, "pg_catalog.regclass") + ` AS root) AS of
		WHERE c.relkind IN ('r', 'f', 'v') AND (c.oid = of.root OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(of.root) AS t))
		ORDER BY c.oid`)
	answer, err := ask(ctx, r.place, s, 5)
	if err != nil {
		return nil, 0, err
	}
	for _, row := range answer {
		l := leaf{name: string(row[0]), paged: string(row[1]) == "t"}
		var known, pages int64
		for cell, into := range map[int]*int64{2: &known, 3: &pages, 4: &l.blocks} {
			if *into, err = strconv.ParseInt(string(row[cell]), 10, 64); err != nil {
				return nil, 0, fmt.Errorf("read the size of table %s: %w", r.name, err)
			}
		}
		if known > 0 && pages > 0 {
			rows += int64(float64(known) / float64(pages) * float64(l.blocks))
		} else {
			rows += l.blocks * averageRowsABlock
		}
		leaves = append(leaves, l)
	}
	return leaves, rows, nil
}

// piece is what one statement of a scan reads.
type piece struct {
	leaf     string
	from, to int64 // blocks; to 0: all that follow
	paged    bool
}

// pieces cuts a relation so that each statement takes seconds at most.
func pieces(leaves []leaf) []piece {
	var cut []piece
	for _, l := range leaves {
		if !l.paged {
			cut = append(cut, piece{leaf: l.name})
			continue
		}
		step := min(max(l.blocks/mostPieces, leastPiece), largestPiece)
		for from := int64(0); ; from += step {
			if from+step >= l.blocks {
				cut = append(cut, piece{leaf: "ONLY " + l.name, from: from, paged: true})
				break
			}
			cut = append(cut, piece{leaf: "ONLY " + l.name, from: from, to: from + step, paged: true})
		}
	}
	return cut
}

// scan sums up both sides by ranges, and gives the ranges that differ.
func (c *comparison) scan(ctx context.Context, t *table) ([]span, error) {
	leaves, rows, err := t.here.leaves(ctx)
	if err != nil {
		return nil, err
	}
	if err = c.chooseBounds(ctx, t, leaves, rows); err != nil {
		return nil, err
	}
	others, _, err := t.there.leaves(ctx)
	if err != nil {
		return nil, err
	}
	here, there := pieces(leaves), pieces(others)
	all := len(here) + len(there)
	mine, other := make([]sums, len(t.bounds)+1), make([]sums, len(t.bounds)+1)
	for len(here) > 0 || len(there) > 0 {
		t.progress("scan", 1-float64(len(here)+len(there))/float64(all), false)
		var theirs *statement
		if len(there) > 0 { // reads while the source does
			theirs = c.pieceStatement(t, t.there, there[0])
			if err = c.target.send(ctx, theirs); err != nil {
				return nil, err
			}
			there = there[1:]
		}
		if len(here) > 0 {
			s := c.pieceStatement(t, t.here, here[0])
			if err = c.takePiece(ctx, c.source, s, mine); err != nil {
				return nil, err
			}
			here = here[1:]
		}
		if theirs != nil {
			if err = c.takePiece(ctx, c.target, theirs, other); err != nil {
				return nil, err
			}
		}
	}
	var differ []span
	for i := range mine {
		if mine[i] == other[i] {
			t.answer.Rows += mine[i].rows
			continue
		}
		s := span{bucket: i, rows: max(mine[i].rows, other[i].rows)}
		if i > 0 {
			s.low = t.bounds[i-1]
		}
		if i < len(t.bounds) {
			s.high = t.bounds[i]
		}
		differ = append(differ, s)
	}
	return differ, nil
}

func (c *comparison) pieceStatement(t *table, r *relation, p piece) *statement {
	s := r.place.statement()
	var conditions []string
	if p.paged {
		conditions = append(conditions, "ctid >= "+s.value(fmt.Sprintf("(%d,0)", p.from), "pg_catalog.tid"))
		if p.to > 0 {
			conditions = append(conditions, "ctid < "+s.value(fmt.Sprintf("(%d,0)", p.to), "pg_catalog.tid"))
		}
	}
	s.WriteString(r.summed(c.hash, t.bucket(s, r, c.hash, t.bounds), r.from(p.leaf, conditions...)))
	return s
}

func (c *comparison) takePiece(ctx context.Context, p place, s *statement, into []sums) error {
	rows, err := p.receive(ctx, s, 4)
	if err != nil {
		return err
	}
	for _, row := range rows {
		bucket, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return fmt.Errorf("read sums: %w", err)
		}
		read, err := parseSums(row[1:])
		if err != nil {
			return err
		}
		into[bucket].add(read)
	}
	return nil
}

// chooseBounds samples the source's keys.
func (c *comparison) chooseBounds(ctx context.Context, t *table, leaves []leaf, rows int64) error {
	ranges := min(rows/rangeRows, mostRanges)
	switch {
	case t.unindexed:
		ranges = min(rows/unindexedRows, mostUnindexed)
	case t.variable:
		ranges = min(rows/rangeRows, mostVariable)
	}
	t.bounds = nil
	if ranges < 2 {
		return nil
	}
	if t.keyless { // hashes are spread evenly
		step := ^uint64(0) / uint64(ranges)
		for i := uint64(1); i < uint64(ranges); i++ {
			t.bounds = append(t.bounds, []string{strconv.FormatInt(int64(i*step-1<<63), 10)})
		}
		return nil
	}
	blocks := int64(0)
	for _, l := range leaves {
		blocks += l.blocks
	}
	sample := ""
	if share := 100 * float64(ranges*sampledBlocks) / float64(max(blocks, 1)); share < 100 {
		sample = fmt.Sprintf(" TABLESAMPLE SYSTEM (%.6f)", share)
	}
	s := t.here.place.statement()
	bounds, err := c.cut(ctx, t, t.here, s, " FROM "+t.here.only+t.here.name+sample, ranges)
	t.bounds = bounds
	return err
}

// cut gives keys that divide what a FROM gives into so many ranges of as many
// rows.
func (c *comparison) cut(ctx context.Context, t *table, r *relation, s *statement, from string, ranges int64) ([][]string, error) {
	keys := t.rangeKeys(r, c.hash)
	inner, outer := "", ""
	for i, name := range t.keys {
		inner += fmt.Sprintf("pg_catalog.concat(%s) AS k%d, ", identifier(name), i)
		outer += fmt.Sprintf("k%d, ", i)
	}
	order := ""
	for i, key := range keys {
		if i > 0 {
			order += ", "
		}
		order += key
	}
	s.WriteString("WITH keys AS MATERIALIZED (SELECT " + inner + "pg_catalog.row_number() OVER (ORDER BY " + order + ") AS n" + from + ") SELECT " + outer +
		"n FROM keys WHERE n % greatest(1 + (SELECT pg_catalog.count(*) FROM keys) / " + s.value(strconv.FormatInt(ranges, 10), "pg_catalog.int8") +
		", 2) = 0 ORDER BY n")
	rows, err := ask(ctx, r.place, s, len(t.keys)+1)
	if err != nil {
		return nil, err
	}
	return keysOf(rows, len(t.keys)), nil
}

func keysOf(rows []session.Row, columns int) [][]string {
	keys := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row[:columns] {
			keys[i] = append(keys[i], string(cell))
		}
	}
	return keys
}
