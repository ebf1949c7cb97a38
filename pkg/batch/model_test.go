package batch

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// model is a database of keyed tables and bags, which changes are applied to
// one by one, and segments by the rules of the package.
type model struct {
	rows   map[*change.Relation]map[string][]change.Value // by key
	bags   map[*change.Relation][]string                  // tables without one
	events []string
}

func newModel() *model {
	return &model{rows: map[*change.Relation]map[string][]change.Value{}, bags: map[*change.Relation][]string{}}
}

func (m *model) clone() *model {
	c := newModel()
	for r, rows := range m.rows {
		c.rows[r] = maps.Clone(rows)
	}
	for r, bag := range m.bags {
		c.bags[r] = slices.Clone(bag)
	}
	return c
}

func (m *model) table(r *change.Relation) map[string][]change.Value {
	if m.rows[r] == nil {
		m.rows[r] = map[string][]change.Value{}
	}
	return m.rows[r]
}

func keyOf(r *change.Relation, row []change.Value) string {
	var key []string
	for _, i := range r.Keys() {
		key = append(key, fmt.Sprintf("%q", row[i].Data))
	}
	return strings.Join(key, ",")
}

func show(row []change.Value) string {
	var b strings.Builder
	for _, v := range row {
		fmt.Fprintf(&b, "%c%s ", v.Kind, v.Data)
	}
	return b.String()
}

// overlay returns base with the present values of row.
func overlay(base, row []change.Value) []change.Value {
	out := slices.Clone(base)
	for i := range row {
		if row[i].Kind != change.Unchanged {
			out[i] = row[i]
		}
	}
	return out
}

// one applies a change as it came.
func (m *model) one(c *change.Change) error {
	switch c.Op {
	case change.Truncate:
		for _, r := range c.Truncated {
			delete(m.rows, r)
			delete(m.bags, r)
		}
		return nil
	case change.Event:
		m.events = append(m.events, c.Channel+" "+string(c.Payload))
		return nil
	}
	r := c.Relation
	if !r.HasKey() {
		return m.bag(c)
	}
	table := m.table(r)
	switch c.Op {
	case change.Insert:
		if table[keyOf(r, c.New)] != nil {
			return fmt.Errorf("insert of %s clashes", keyOf(r, c.New))
		}
		table[keyOf(r, c.New)] = c.New
	case change.Upsert:
		table[keyOf(r, c.New)] = c.New
	case change.Delete:
		delete(table, keyOf(r, c.Old))
	case change.Update:
		before := c.Old
		if before == nil {
			before = c.New
		}
		row := table[keyOf(r, before)]
		if row == nil {
			return fmt.Errorf("update of %s finds nothing", keyOf(r, before))
		}
		if keyOf(r, before) != keyOf(r, c.New) && table[keyOf(r, c.New)] != nil {
			return fmt.Errorf("update to %s clashes", keyOf(r, c.New))
		}
		for i := range c.New {
			c.New[i].Same = !r.Columns[i].Key && c.New[i].Kind == row[i].Kind && bytes.Equal(c.New[i].Data, row[i].Data)
		}
		delete(table, keyOf(r, before))
		table[keyOf(r, c.New)] = overlay(row, c.New)
	}
	return nil
}

func (m *model) bag(c *change.Change) error {
	bag := m.bags[c.Relation]
	if c.Old != nil {
		at := slices.Index(bag, show(c.Old))
		if at < 0 {
			return fmt.Errorf("no row %s", show(c.Old))
		}
		bag = slices.Delete(slices.Clone(bag), at, at+1)
	}
	if c.New != nil {
		bag = append(bag, show(c.New))
	}
	m.bags[c.Relation] = bag
	return nil
}

// errTransient says that the set-based order meets a key two rows share for a
// moment: the target raises a unique violation and the changes go one by one.
var errTransient = fmt.Errorf("two rows share a key for a moment")

// segment applies a segment by the package's order of execution. Deletes must
// find their row unless lenient.
func (m *model) segment(s *Segment, lenient bool) error {
	for _, truncate := range s.Truncates {
		if err := m.one(&change.Change{Op: change.Truncate, Truncated: truncate.Relations}); err != nil {
			return err
		}
	}
	for _, t := range slices.Backward(s.Tables) {
		for _, row := range t.Deletes {
			key := keyOf(t.Relation, row.Key)
			if m.table(t.Relation)[key] == nil && !lenient {
				return fmt.Errorf("delete of %s finds nothing", key)
			}
			delete(m.table(t.Relation), key)
		}
	}
	for _, t := range s.Tables {
		for i := range t.Updates {
			if err := m.updates(t.Relation, &t.Updates[i]); err != nil {
				return err
			}
		}
	}
	for _, t := range s.Tables {
		for _, row := range t.Inserts {
			if err := m.one(&change.Change{Op: change.Insert, Relation: t.Relation, New: row.New}); err != nil {
				return err
			}
		}
		for _, row := range t.Upserts {
			if err := m.one(&change.Change{Op: change.Upsert, Relation: t.Relation, New: row.New}); err != nil {
				return err
			}
		}
	}
	for _, t := range s.Tables {
		for i := range t.Ordered {
			if err := m.one(&t.Ordered[i].Change); err != nil {
				return err
			}
		}
	}
	for _, event := range s.Events {
		m.events = append(m.events, event.Channel+" "+string(event.Payload))
	}
	return nil
}

// updates applies one UPDATE statement: all its rows at once.
func (m *model) updates(r *change.Relation, group *Updates) error {
	table := m.table(r)
	rows := make([][]change.Value, len(group.Rows))
	for i, row := range group.Rows {
		old := table[keyOf(r, row.Key)]
		if old == nil {
			return fmt.Errorf("update of %s finds nothing", keyOf(r, row.Key))
		}
		rows[i] = slices.Clone(old)
		for _, column := range group.Columns {
			if row.New[column].Kind == change.Unchanged {
				return fmt.Errorf("update of %s sets column %d, which has no value", keyOf(r, row.Key), column)
			}
			rows[i][column] = row.New[column]
		}
		if changed := keyOf(r, rows[i]) != keyOf(r, old); changed != group.KeyChanged {
			return fmt.Errorf("update of %s: key changed is %t", keyOf(r, row.Key), changed)
		}
	}
	for _, row := range group.Rows {
		delete(table, keyOf(r, row.Key))
	}
	for _, row := range rows {
		if table[keyOf(r, row)] != nil {
			return errTransient
		}
		table[keyOf(r, row)] = row
	}
	return nil
}

// dump returns the contents as comparable text.
func (m *model) dump() []string {
	var lines []string
	for r, rows := range m.rows {
		for key, row := range rows {
			lines = append(lines, r.Name+" "+key+": "+show(row))
		}
	}
	for r, bag := range m.bags {
		for _, row := range bag {
			lines = append(lines, r.Name+" "+row)
		}
	}
	slices.Sort(lines)
	return append(lines, m.events...)
}
