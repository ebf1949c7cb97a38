package batch

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// finish turns entities into rows to apply and returns how many there are.
func (t *table) finish() int {
	for i := range t.entities {
		e := &t.entities[i]
		switch e.state {
		case inserted:
			t.out.Inserts = append(t.out.Inserts, Row{New: e.row, Tx: e.tx})
		case upserted:
			t.out.Upserts = append(t.out.Upserts, Row{New: e.row, Tx: e.tx})
		case deleted:
			t.out.Deletes = append(t.out.Deletes, Row{Key: e.orig, Tx: e.tx})
			if e.unsure {
				t.out.Unsure++
			}
		case updated:
			t.group(e)
		}
	}
	t.sortUpdates()
	t.sortRows(t.out.Deletes)
	kept := len(t.out.Deletes) + len(t.out.Inserts) + len(t.out.Upserts) + len(t.out.Ordered)
	for i := range t.out.Updates {
		t.sortRows(t.out.Updates[i].Rows)
		kept += len(t.out.Updates[i].Rows)
	}
	return kept
}

// maxColumnSets bounds how many statements a table's updates may need: rows that
// would add one more set the columns they left the same as well.
const maxColumnSets = 8

// group adds an updated row to the updates that set the same columns, or drops
// it if it sets none.
func (t *table) group(e *entity) {
	moved := !sameKey(t.keys, e.orig, e.row)
	if !t.columnSet(e, moved, false) {
		return
	}
	i, ok := t.groups[string(t.columns)]
	if !ok && len(t.groups) >= maxColumnSets {
		t.columnSet(e, moved, true)
		i, ok = t.groups[string(t.columns)]
	}
	if !ok {
		i = t.newGroup(moved)
		t.groups[string(t.columns)] = i
	}
	group := &t.out.Updates[i]
	group.Rows = append(group.Rows, Row{Key: e.orig, New: e.row, Tx: e.tx})
}

// columnSet notes in t.columns which columns an updated row sets, those that it
// left the same only if asked for, and whether its key moves. It returns false if
// there is nothing to set.
func (t *table) columnSet(e *entity, moved, same bool) bool {
	b := t.columns[:0]
	any := moved
	for i := range e.row {
		key := t.out.Relation.Columns[i].Key
		set := byte(0)
		if e.row[i].Kind != change.Unchanged && (moved || !key) && (same || key || !e.row[i].Same) {
			set, any = 1, true
		}
		b = append(b, set)
	}
	if moved {
		b = append(b, 1)
	}
	t.columns = b
	return any
}

// newGroup appends an empty group that sets t.columns, reusing its memory.
func (t *table) newGroup(moved bool) int {
	i := len(t.out.Updates)
	if i < cap(t.out.Updates) {
		t.out.Updates = t.out.Updates[:i+1]
	} else {
		t.out.Updates = append(t.out.Updates, Updates{})
	}
	group := &t.out.Updates[i]
	group.KeyChanged = moved
	group.Columns = group.Columns[:0]
	for column := range t.out.Relation.Columns {
		if t.columns[column] != 0 {
			group.Columns = append(group.Columns, column)
		}
	}
	return i
}

// sortUpdates puts the groups that keep keys before those that change them.
func (t *table) sortUpdates() {
	at := 0
	for i := range t.out.Updates {
		if !t.out.Updates[i].KeyChanged {
			t.out.Updates[at], t.out.Updates[i] = t.out.Updates[i], t.out.Updates[at]
			at++
		}
	}
}

// sortRows sorts rows by key, whole numbers by value: rows near each other in
// the target's index, and often in its pages, are then written together
// (measured: a quarter faster for random keys), and two batches lock rows in the
// same order.
func (t *table) sortRows(rows []Row) {
	compare := func(a, b Row) int {
		for _, i := range t.keys {
			x, y := a.Key[i].Data, b.Key[i].Data
			if startsWithDigit(x) && startsWithDigit(y) && len(x) != len(y) {
				return cmp.Compare(len(x), len(y))
			}
			if c := bytes.Compare(x, y); c != 0 {
				return c
			}
		}
		return 0
	}
	if !slices.IsSortedFunc(rows, compare) {
		slices.SortFunc(rows, compare)
	}
}

func startsWithDigit(b []byte) bool { return len(b) > 0 && b[0] >= '0' && b[0] <= '9' }
