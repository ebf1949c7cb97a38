package copydata

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/render"
)

// Table is a table that is copied.
type Table struct {
	OID          uint32
	Schema, Name string
	Relation     *change.Relation // as it is now, with its key
	Selected     []string         // its columns, quoted
	Types        []string         // theirs, as in SQL
	Equal        []string         // the operators that compare them
	Binary       []bool           // which of them are bytea
	Varying      []bool           // which of them have values of any length
	Target       *render.Target   // of the same relation
	Condition    string           // on the rows that are copied, with AND before it, or ""
	// Tolerant says that rows which the target has are left alone: it may have got
	// them from changes. They are what the source has at the position.
	Tolerant bool
	// References are the node's foreign keys from tables that are copied later. Held
	// says that there are others: a row that the source has must not go there.
	References []Reference
	Held       bool

	leaves  []*leaf
	waiting []*Job
	flying  int

	ChunksDone, ChunksTotal int64
	RowsDone                int64
	BytesDone, BytesTotal   int64

	sent  int64
	fresh int64 // bytes of chunks done that TakeBytes has not told
}

// leaf is a part of a table that has pages.
type leaf struct {
	chunk.Leaf
	done []chunk.PageRange
}

// bytes is the size of a range.
func (l *leaf) bytes(r chunk.PageRange) int64 { return l.Bytes * (r.To - r.From) / max(l.Blocks, 1) }

// isDone reports whether a page is in a chunk that is done.
func (l *leaf) isDone(block int64) bool {
	for _, r := range l.done {
		if r.From <= block && block < r.To {
			return true
		}
	}
	return false
}

// String is the table's name for messages.
func (t *Table) String() string { return t.Schema + "." + t.Name }

// Plan cuts the table into chunks for a copier, but for those that are noted on the
// target. A leaf that was rewritten since begins anew: its rows are on other pages.
func (t *Table) Plan(ctx context.Context, query chunk.Query, copier *Copier, done []Done) error {
	leaves, err := chunk.Leaves(ctx, query, strconv.FormatUint(uint64(t.OID), 10))
	if err != nil {
		return err
	}
	t.leaves, t.waiting = nil, nil
	t.ChunksDone, t.ChunksTotal, t.RowsDone, t.BytesDone, t.BytesTotal = 0, 0, 0, 0, 0
	for i := range leaves {
		l := &leaf{Leaf: leaves[i]}
		for _, d := range done {
			if d.Leaf == l.OID && d.Filenode == l.Filenode {
				l.done = append(l.done, d.PageRange)
				t.RowsDone += d.Rows
				t.BytesDone += d.Bytes
			}
		}
		t.ChunksDone += int64(len(l.done))
		t.BytesTotal += l.Bytes
		for _, r := range l.Without(l.done, copier.sizes.chunkOf(l.Bytes)) {
			t.waiting = append(t.waiting, &Job{table: t, leaf: l, pages: r})
		}
		t.leaves = append(t.leaves, l)
	}
	t.ChunksTotal = t.ChunksDone + int64(len(t.waiting))
	t.BytesDone = min(t.BytesDone, t.BytesTotal)
	return nil
}

// Redefine takes over what a table is now from another description of it. The
// chunks stay as they are planned.
func (t *Table) Redefine(now *Table) {
	t.Schema, t.Name, t.Relation, t.Target, t.Condition = now.Schema, now.Name, now.Relation, now.Target, now.Condition
	t.Selected, t.Types, t.Equal, t.Binary, t.Varying = now.Selected, now.Types, now.Equal, now.Binary, now.Varying
}

// Moved reports whether the table's pages are not those it was planned for: it
// was rewritten, or has got or lost partitions.
func (t *Table) Moved(ctx context.Context, query chunk.Query) (bool, error) {
	leaves, err := chunk.Leaves(ctx, query, strconv.FormatUint(uint64(t.OID), 10))
	if err != nil || len(leaves) != len(t.leaves) {
		return true, err
	}
	for i := range leaves {
		if leaves[i].OID != t.leaves[i].OID || leaves[i].Filenode != t.leaves[i].Filenode {
			return true, nil
		}
	}
	for i := range leaves {
		t.leaves[i].Name = leaves[i].Name // it may have been renamed
	}
	return false, nil
}

// Outstanding is how many chunks are yet to be copied.
func (t *Table) Outstanding() int { return len(t.waiting) + t.flying }

// query selects columns of the rows of a leaf, with what is to follow the places.
func (t *Table) query(l *leaf, columns []int, and string) string {
	return t.queryOf("ONLY "+l.Name, columns, and)
}

// queryOf selects columns of the rows of a relation.
func (t *Table) queryOf(relation string, columns []int, and string) string {
	var b strings.Builder
	b.WriteString("SELECT ctid")
	for _, column := range columns {
		b.WriteString(", " + t.Selected[column])
	}
	b.WriteString(" FROM " + relation + " WHERE ctid >= $1 AND ctid < $2" + and + t.Condition)
	return b.String()
}

// CountQuery counts the rows that are to be on the target.
func (t *Table) CountQuery() string {
	if len(t.leaves) == 0 {
		return "SELECT 0"
	}
	counts := make([]string, len(t.leaves))
	for i, l := range t.leaves {
		counts[i] = "(SELECT pg_catalog.count(*) FROM ONLY " + l.Name + " WHERE true" + t.Condition + ")"
	}
	return "SELECT " + strings.Join(counts, " + ")
}

// Done is a chunk that is noted on the target.
type Done struct {
	chunk.PageRange
	Relation, Filenode uint32
	Rows, Bytes        int64
}

// ReadDone lists the chunks that a node has noted, by table.
func ReadDone(ctx context.Context, query chunk.Query, key string) (map[uint32][]Done, error) {
	rows, err := query(ctx, `SELECT relation, leaf, filenode, from_block, to_block, rows, bytes
		FROM courier_target.copied_chunk WHERE subscription = `+literal(key), 7)
	if err != nil {
		return nil, fmt.Errorf("read which chunks are copied: %w", err)
	}
	done := make(map[uint32][]Done)
	for _, row := range rows {
		var n [7]int64
		for i := range n {
			if n[i], err = strconv.ParseInt(string(row[i]), 10, 64); err != nil {
				return nil, fmt.Errorf("read which chunks are copied: %w", err)
			}
		}
		d := Done{PageRange: chunk.PageRange{Leaf: uint32(n[1]), From: n[3], To: n[4]},
			Relation: uint32(n[0]), Filenode: uint32(n[2]), Rows: n[5], Bytes: n[6]}
		done[d.Relation] = append(done[d.Relation], d)
	}
	return done, nil
}

// literal quotes a text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// array is a list of texts as the literal of an array.
func array(list []string) []byte {
	b := []byte{'{'}
	for i, text := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for j := range len(text) {
			if text[j] == '"' || text[j] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, text[j])
		}
		b = append(b, '"')
	}
	return append(b, '}')
}

// Jobs takes the chunks that are to be copied next, at most so many. They are to be
// run; what is left is put back by Return.
func (t *Table) Jobs(most int) []*Job {
	n := min(most, len(t.waiting))
	jobs := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	t.flying += n
	return jobs
}

// Return takes back the chunks that were not done, and reports whether there are
// single rows that were not.
func (t *Table) Return(jobs []*Job) (rows bool) {
	var left []*Job
	for _, j := range jobs {
		switch {
		case j.table != t || j.done:
		case j.rows != nil:
			rows = true
		default:
			left = append(left, j)
			t.flying--
		}
	}
	t.waiting = append(left, t.waiting...)
	return rows
}

// finish counts a job that is committed.
func (t *Table) finish(j *Job) {
	j.done = true
	t.sent += j.sent
	if j.rows != nil || j.merge != nil {
		return
	}
	t.flying--
	j.leaf.done = append(j.leaf.done, j.pages)
	t.ChunksDone++
	t.RowsDone += j.count
	bytes := j.leaf.bytes(j.pages)
	t.BytesDone = min(t.BytesDone+bytes, t.BytesTotal)
	t.fresh += bytes
}

// TakeBytes returns how large the chunks are that have been done since it was last
// called; not those that the target had noted before.
func (t *Table) TakeBytes() int64 {
	fresh := t.fresh
	t.fresh = 0
	return fresh
}

// TakeSent returns how many bytes of statements have been committed since it was
// last called.
func (t *Table) TakeSent() int64 {
	sent := t.sent
	t.sent = 0
	return sent
}

// Place is where a row is, and under which number it was asked for.
type Place struct {
	Leaf   uint32
	Row    string // its ctid
	Number int
}

// Rows makes jobs of rows that are written whether the target has them or not.
// Rows on pages that are yet to be copied are left out. A job's statement is asked
// for with the numbers of its rows; it runs with them.
func (t *Table) Rows(places []Place, statement func(numbers []int) string) (jobs []*Job, numbers []int) {
	var due []Place
	for _, p := range places {
		l := t.leaf(p.Leaf)
		block, _, _ := strings.Cut(strings.TrimPrefix(p.Row, "("), ",")
		n, err := strconv.ParseInt(block, 10, 64)
		if l == nil || err == nil && n < l.Blocks && !l.isDone(n) {
			continue
		}
		due = append(due, p)
		numbers = append(numbers, p.Number)
	}
	return t.rowJobs(due, statement), numbers
}

// rowJobs makes a job a leaf of rows, all of them in leaves that are planned.
func (t *Table) rowJobs(places []Place, statement func(numbers []int) string) []*Job {
	var jobs []*Job
	byLeaf := make(map[uint32]*Job)
	numbers := make(map[uint32][]int)
	for _, p := range places {
		j := byLeaf[p.Leaf]
		if j == nil {
			j = &Job{table: t, leaf: t.leaf(p.Leaf)}
			byLeaf[p.Leaf] = j
			jobs = append(jobs, j)
		}
		j.rows = append(j.rows, p.Row)
		numbers[p.Leaf] = append(numbers[p.Leaf], p.Number)
	}
	for _, j := range jobs {
		j.also = statement(numbers[j.leaf.OID])
	}
	return jobs
}

// leaf returns a leaf by its OID, or nil.
func (t *Table) leaf(oid uint32) *leaf {
	for _, l := range t.leaves {
		if l.OID == oid {
			return l
		}
	}
	return nil
}
