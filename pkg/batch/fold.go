package batch

import (
	"slices"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// Fold collects a batch. Its memory is reused from batch to batch; what
// Segments returns is valid until Reset. It is not safe for concurrent use.
type Fold struct {
	// Rewrites makes an update of a delete and an insert of the same row, for a
	// target where others refer to it. Columns that only the target has keep their
	// values, which they would not if the changes were applied one by one.
	Rewrites bool

	segments []Segment
	current  Segment
	started  bool // current has something in it

	tables map[uint32]*table // of the current segment, by OID (shape id if 0)
	order  []*table          // the same, in first-seen order
	used   []*table          // of the segments that have ended
	spare  []*table
	last   *table

	merged []change.Value // slab for merged rows
	rows   int
	in     int
	kept   int
}

// New returns an empty Fold.
func New() *Fold {
	return &Fold{tables: make(map[uint32]*table)}
}

// Reset empties the fold for the next batch and keeps its memory.
func (f *Fold) Reset() {
	f.endSegment()
	f.spare = append(f.spare, f.used...)
	f.used = reuse(f.used)
	f.segments = reuse(f.segments)
	f.merged = reuse(f.merged)
	f.rows, f.in, f.kept = 0, 0, 0
}

// Stats returns how many changes were added, and how many of them need no row,
// table or event of their own any more. It counts what Segments has returned.
func (f *Fold) Stats() (in, folded int) { return f.in, f.in - f.kept }

// Len returns how many rows the changes come to so far, at most: those that have been
// touched, rows of tables without a key as often as that, truncated tables and events.
func (f *Fold) Len() int { return f.rows }

// Add adds the next change, made by the caller's transaction number tx. It does
// not keep c, only the values it refers to.
func (f *Fold) Add(c *change.Change, tx int) {
	f.in++
	switch c.Op {
	case change.Truncate:
		f.rows += len(c.Truncated)
		f.truncate(c, tx)
		return
	case change.Event:
		f.rows++
		f.started = true
		f.current.Events = append(f.current.Events, Event{Channel: c.Channel, Payload: c.Payload, Tx: tx})
		return
	}
	t := f.last
	if t == nil || t.out.Relation != c.Relation {
		t = f.table(c.Relation)
		f.last = t
	}
	before := t.len()
	t.add(f, c, tx)
	f.rows += t.len() - before
}

// Segments ends the batch and returns its segments in order.
func (f *Fold) Segments() []Segment {
	f.endSegment()
	return f.segments
}

func (f *Fold) table(relation *change.Relation) *table {
	id := relation.OID
	if id == 0 {
		id = relation.Shape
	}
	t := f.tables[id]
	if t != nil && t.out.Relation == relation {
		return t
	}
	if t != nil { // the table has changed its shape: rows of both do not mix
		f.endSegment()
	}
	if n := len(f.spare); n > 0 {
		t = f.spare[n-1]
		f.spare = f.spare[:n-1]
	} else {
		t = newTable()
	}
	t.begin(relation)
	f.tables[id] = t
	f.order = append(f.order, t)
	f.started = true
	return t
}

func (f *Fold) truncate(c *change.Change, tx int) {
	if len(f.order) > 0 || len(f.current.Events) > 0 {
		f.endSegment() // what follows a truncate must not fold into what precedes it
	}
	f.started = true
	if n := len(f.current.Truncates); n > 0 {
		last := &f.current.Truncates[n-1]
		if last.Restart == c.Restart && last.Cascade == c.Cascade && last.Where == "" && c.Where == "" {
			last.Uncopied = append(last.Uncopied, c.Uncopied...)
			for _, relation := range c.Truncated {
				if !slices.Contains(last.Relations, relation) {
					last.Relations = append(last.Relations, relation)
				}
			}
			return
		}
	}
	f.current.Truncates = append(f.current.Truncates, Truncate{
		Relations: slices.Clone(c.Truncated), Uncopied: slices.Clone(c.Uncopied), Restart: c.Restart, Cascade: c.Cascade, Where: c.Where, Tx: tx,
	})
}

func (f *Fold) endSegment() {
	if !f.started {
		return
	}
	for _, t := range f.order {
		f.kept += t.finish()
		f.current.Tables = append(f.current.Tables, &t.out)
	}
	f.used = append(f.used, f.order...)
	f.kept += len(f.current.Truncates) + len(f.current.Events)
	f.segments = append(f.segments, f.current)
	f.current = Segment{}
	f.started = false
	f.last = nil
	f.order = reuse(f.order)
	clear(f.tables)
}

// merge returns newer with its unchanged values taken from older. A value that
// older has changed stays changed, though newer has left it as it was. Neither is
// modified: the original changes may yet be applied one by one.
func (f *Fold) merge(older, newer []change.Value) []change.Value {
	if !slices.ContainsFunc(newer, func(v change.Value) bool { return v.Same || v.Kind == change.Unchanged }) {
		return newer
	}
	if cap(f.merged)-len(f.merged) < len(newer) {
		f.merged = make([]change.Value, 0, max(1024, 2*cap(f.merged), len(newer)))
	}
	start := len(f.merged)
	f.merged = f.merged[:start+len(newer)]
	row := f.merged[start:len(f.merged):len(f.merged)]
	for i := range newer {
		if newer[i].Kind == change.Unchanged {
			row[i] = older[i]
			continue
		}
		row[i] = newer[i]
		if newer[i].Same && !older[i].Same && older[i].Kind != change.Unchanged {
			row[i].Same = false
		}
	}
	return row
}
