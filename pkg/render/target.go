package render

import (
	"bytes"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// column pairs a source column with its target column.
type column struct {
	source int // index in the relation's columns
	name   []byte
	typ    string
	equal  string
	suffix string // of a value that is compared with the column: its collation
	direct bool
	split  bool // its values are best sent in one text, see split.go
	key    bool
	always bool // GENERATED ALWAYS AS IDENTITY: can be inserted, not updated

	// The key column is generated on both sides: rows are found by it, and it
	// is never written.
	computed bool
}

// Target says how changes of one relation are written to one table. It is
// immutable, so several scripts may use it at once.
type Target struct {
	relation *change.Relation
	table    *Table
	filter   *Filter
	name     []byte   // quoted
	only     string   // before the name, where rows are looked for
	columns  []column // those that are written, in the relation's order; then those that are computed
	written  int      // how many are not computed
	frozen   bool     // a column that is no key can be inserted and not updated
	bySource []int    // relation's column → index in columns, or -1
	identity bool     // inserts need OVERRIDING SYSTEM VALUE
	conflict []byte   // quoted key columns
}

// Targets finds the target of a relation. A nil target means that its changes
// are not wanted.
type Targets interface {
	Target(relation *change.Relation) (*Target, error)
}

// Compile matches a relation with the target's table by column names. A nil
// filter takes everything; a nil table, a missing column or a key column that
// cannot be written gives a *DriftError.
func Compile(relation *change.Relation, table *Table, filter *Filter) (*Target, error) {
	drift := func(column, reason string, missing bool) error {
		return &DriftError{Schema: relation.Schema, Table: relation.Name, Column: column, Reason: reason, missing: missing}
	}
	if table == nil {
		return nil, drift("", "the table does not exist on the target", true)
	}
	if table.Unfit != "" {
		return nil, drift("", table.Unfit, false)
	}
	if table.View && relation.WholeRow() {
		return nil, drift("", "it is a view on the target, in which a row can only be found by a key", false)
	}
	t := &Target{
		relation: relation,
		table:    table,
		filter:   filter,
		name:     appendName(nil, table.Schema, table.Name),
		bySource: make([]int, len(relation.Columns)),
	}
	if table.Only {
		t.only = "ONLY "
	}
	keyed := relation.HasKey()
	var computed []column
	for i := range relation.Columns {
		source := &relation.Columns[i]
		t.bySource[i] = -1
		key := keyed && source.Key
		if !key && filter != nil && filter.Columns != nil && !filter.Columns[source.Name] {
			continue
		}
		target := table.Column(source.Name)
		switch {
		case target == nil:
			e := drift(source.Name, "the column does not exist on the target", true).(*DriftError)
			e.Schema, e.Table = table.Schema, table.Name
			return nil, e
		case target.Generated && key && !source.Generated:
			e := drift(source.Name, "the key column is a generated column on the target", false).(*DriftError)
			e.Schema, e.Table = table.Schema, table.Name
			return nil, e
		case target.Generated && !key:
			continue
		}
		identity := target.Identity == 'a' || target.Identity == 'd'
		t.identity = t.identity || identity
		c := column{
			source: i, name: appendIdent(nil, target.Name), typ: target.Type, equal: target.Equal,
			direct: target.Direct, split: !target.Direct || splitTypes[target.Type], key: key, always: target.Identity == 'a', computed: target.Generated,
		}
		if c.equal == "" {
			c.equal = "="
		}
		if target.Collation != "" {
			c.suffix = " COLLATE " + target.Collation
		}
		t.frozen = t.frozen || c.always && !key
		if c.computed {
			computed = append(computed, c)
		} else {
			t.bySource[i] = len(t.columns)
			t.columns = append(t.columns, c)
		}
		if key {
			if len(t.conflict) > 0 {
				t.conflict = append(t.conflict, ", "...)
			}
			t.conflict = append(t.conflict, c.name...)
		}
	}
	t.written = len(t.columns)
	t.columns = append(t.columns, computed...)
	if t.written == 0 {
		return nil, drift("", "it has no column in common with the source", false)
	}
	return t, nil
}

// Writes reports whether the relation's i-th column is written.
func (t *Target) Writes(i int) bool { return t.bySource[i] >= 0 }

// settable appends to list the columns among the given ones of the relation
// that an update can set.
func (t *Target) settable(list []int, columns []int) []int {
	for _, source := range columns {
		if i := t.bySource[source]; i >= 0 && !t.columns[i].always {
			list = append(list, i)
		}
	}
	return list
}

// requireMovable makes sure that the columns in which two tuples of a row's key
// differ can be set on the target.
func (t *Target) requireMovable(before, after []change.Value) error {
	for i := range t.columns {
		c := &t.columns[i]
		if c.key && c.always && !bytes.Equal(before[c.source].Data, after[c.source].Data) {
			return &DriftError{Schema: t.table.Schema, Table: t.table.Name, Column: t.relation.Columns[c.source].Name,
				Reason: "a key was changed, and the column is GENERATED ALWAYS AS IDENTITY on the target, which no update can set"}
		}
	}
	return nil
}

// requireSame makes sure that an update gives a column of the target that no
// update can set the value it has.
func (t *Target) requireSame(row []change.Value) error {
	for i := range t.columns {
		c := &t.columns[i]
		value := &row[c.source]
		if c.always && !c.key && !value.Same && value.Kind != change.Unchanged {
			return &DriftError{Schema: t.table.Schema, Table: t.table.Name, Column: t.relation.Columns[c.source].Name,
				Reason: "its value was changed, and the column is GENERATED ALWAYS AS IDENTITY on the target, which no update can set"}
		}
	}
	return nil
}

// whole reports whether a row has a value for every column that is written.
func (t *Target) whole(row []change.Value) bool {
	for i := range t.columns {
		if row[t.columns[i].source].Kind == change.Unchanged {
			return false
		}
	}
	return true
}
