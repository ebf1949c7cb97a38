package batch

import (
	"hash/maphash"

	"github.com/pg-courier/pg_courier/pkg/change"
)

type state byte

const (
	gone state = iota // inserted and deleted again
	inserted
	updated
	upserted
	deleted
)

// entity is a row the segment has touched; doc.go has its states.
type entity struct {
	hash  uint64
	key   []change.Value // tuple with its last key; nil when another entity has taken that over
	orig  []change.Value // tuple with its key on the target; nil if it was not there
	row   []change.Value
	tx    int
	state state

	// vacated says that the row the target may have had under the key has been
	// moved or deleted in this segment. To delete that key again would hit the
	// row before its move, since deletes come first.
	vacated bool

	// unsure says, of a deleted one, that the target may never have had the row.
	unsure bool
}

// table folds the changes of one relation in one segment.
type table struct {
	out      Table
	keys     []int
	index    index
	entities []entity
	columns  []byte         // scratch: which columns an update sets
	groups   map[string]int // the same, to an index of out.Updates
}

func newTable() *table {
	return &table{index: index{seed: maphash.MakeSeed()}, groups: make(map[string]int)}
}

// begin prepares t, fresh or used, for a relation.
func (t *table) begin(relation *change.Relation) {
	for i := range t.out.Updates {
		t.out.Updates[i].Rows = reuse(t.out.Updates[i].Rows)
	}
	t.out = Table{
		Relation: relation,
		Deletes:  reuse(t.out.Deletes),
		Updates:  t.out.Updates[:0], // what is past its length keeps its Rows for reuse
		Inserts:  reuse(t.out.Inserts),
		Upserts:  reuse(t.out.Upserts),
		Ordered:  reuse(t.out.Ordered),
	}
	t.keys = relation.Keys()
	t.entities = reuse(t.entities)
	t.index.reset()
	clear(t.groups)
}

// reuse empties a slice for the next use, so that it keeps nothing alive.
func reuse[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// len is how many rows have been touched, without a key: how often.
func (t *table) len() int { return len(t.entities) + len(t.out.Inserts) + len(t.out.Ordered) }

// add folds a change in. Tables without a key are not folded: all inserts are
// rows to insert, and once something else comes everything stays in order.
func (t *table) add(f *Fold, c *change.Change, tx int) {
	if !t.out.Relation.HasKey() {
		if c.Op == change.Insert && len(t.out.Ordered) == 0 {
			t.out.Inserts = append(t.out.Inserts, Row{New: c.New, Tx: tx})
			return
		}
		for _, row := range t.out.Inserts {
			insert := change.Change{Op: change.Insert, Relation: c.Relation, New: row.New}
			t.out.Ordered = append(t.out.Ordered, Ordered{Change: insert, Tx: row.Tx})
		}
		t.out.Inserts = reuse(t.out.Inserts)
		t.out.Ordered = append(t.out.Ordered, Ordered{Change: *c, Tx: tx})
		return
	}
	switch c.Op {
	case change.Insert:
		t.put(f, c, tx, inserted)
	case change.Upsert:
		t.put(f, c, tx, upserted)
	case change.Update:
		t.update(f, c, tx)
	case change.Delete:
		t.delete(c, tx)
	}
}

// find returns the last entity that has had the tuple's key, or nil.
func (t *table) find(hash uint64, tuple []change.Value) *entity {
	if i := t.index.find(t, hash, tuple); i >= 0 {
		return &t.entities[i]
	}
	return nil
}

// create adds an entity under the key of its tuple, which it takes over from
// any entity that had it. Pointers to entities are invalid afterwards.
func (t *table) create(e entity) {
	t.entities = append(t.entities, e)
	t.index.set(t, len(t.entities)-1)
}

// put folds an insert or an upsert.
func (t *table) put(f *Fold, c *change.Change, tx int, as state) {
	hash := t.index.hash(t.keys, c.New)
	e := t.find(hash, c.New)
	if e == nil {
		t.create(entity{hash: hash, key: c.New, row: c.New, tx: tx, state: as})
		return
	}
	switch e.state {
	case gone:
		*e = entity{hash: hash, key: c.New, row: c.New, tx: tx, state: inserted, vacated: true}
	case deleted:
		if f.Rewrites && !e.unsure {
			e.state, e.row = updated, c.New
			return
		}
		t.create(entity{hash: hash, key: c.New, row: c.New, tx: tx, state: inserted, vacated: true})
	case updated: // the row is on the target
		if sameKey(t.keys, e.orig, c.New) {
			e.state, e.vacated = upserted, false
		}
		e.row = c.New
	default:
		e.row = c.New
	}
}

func (t *table) update(f *Fold, c *change.Change, tx int) {
	before := c.Old
	if before == nil {
		before = c.New
	}
	hash := t.index.hash(t.keys, before)
	e := t.find(hash, before)
	moves := c.Old != nil && !sameKey(t.keys, c.Old, c.New)
	if e == nil || e.state == gone || e.state == deleted {
		t.create(entity{hash: hash, key: before, orig: before, row: c.New, tx: tx, state: updated})
		e = &t.entities[len(t.entities)-1]
	} else {
		e.row = f.merge(e.row, c.New)
	}
	if !moves {
		return
	}
	if t.mayBeThere(e) {
		// The target may have the row under the key it leaves.
		t.entities = append(t.entities, entity{orig: before, tx: tx, state: deleted, unsure: true})
		e = t.find(hash, before)
	}
	t.move(e, c.New)
}

// mayBeThere reports whether the target may have a row under the key of an
// entity that is upserted.
func (t *table) mayBeThere(e *entity) bool {
	return !e.vacated && e.state == upserted
}

// move puts an entity under the key of a tuple. One that is gone stays behind,
// to tell that the key it leaves is free.
func (t *table) move(e *entity, tuple []change.Value) {
	moved := *e
	*e = entity{hash: e.hash, key: e.key}
	moved.hash, moved.key = t.index.hash(t.keys, tuple), tuple
	moved.vacated = t.find(moved.hash, tuple) != nil
	t.create(moved)
}

func (t *table) delete(c *change.Change, tx int) {
	hash := t.index.hash(t.keys, c.Old)
	e := t.find(hash, c.Old)
	if e == nil {
		t.create(entity{hash: hash, key: c.Old, orig: c.Old, tx: tx, state: deleted})
		return
	}
	switch {
	case t.mayBeThere(e):
		e.state, e.row, e.orig, e.unsure = deleted, nil, c.Old, true
	case e.state == inserted || e.state == upserted:
		e.state, e.row = gone, nil
	case e.state == updated:
		e.state, e.row = deleted, nil
	}
}
