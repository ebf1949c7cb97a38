package render

import "strings"

// Rows is a statement that inserts rows whose values somebody else writes: the
// elements of one array literal a column, quoted twice as appendElement does.
type Rows struct {
	Columns []int    // indexes of the relation's columns, in the order of the literals
	Head    string   // before the first literal
	Joints  []string // behind each of them
}

// Existing says what becomes of a row whose key the table has.
type Existing int

// Fail leaves it to the table's constraints.
const (
	Fail Existing = iota
	Keep
	Replace
)

// Rows returns the statement for all columns that are written. Those of the
// relation that others gives an expression for are not left to literals; the
// expressions may refer to what from says, which begins with FROM. Without any
// column that is left to a literal the statement is its head. The key is the
// relation's.
func (t *Target) Rows(existing Existing, others map[int]string, from string) Rows {
	var names, exprs []string
	r := Rows{}
	for i := range t.columns[:t.written] {
		c := &t.columns[i]
		if others[c.source] != "" {
			continue
		}
		r.Columns = append(r.Columns, c.source)
		names = append(names, string(c.name))
	}
	for i := range t.columns[:t.written] {
		c := &t.columns[i]
		if expr := others[c.source]; expr != "" {
			names, exprs = append(names, string(c.name)), append(exprs, expr+"::"+c.typ)
		}
	}
	alias, overriding := "", ""
	if t.table.Name == "excluded" {
		alias = " AS t"
	}
	if t.identity {
		overriding = "OVERRIDING SYSTEM VALUE "
	}
	head := "INSERT INTO " + string(t.name) + alias + " (" + strings.Join(names, ", ") + ") " + overriding + "SELECT "
	if len(r.Columns) > 0 {
		r.Head = head + "pg_catalog.unnest('{"
	} else {
		r.Head = head
	}
	for n, source := range r.Columns {
		c := &t.columns[t.bySource[source]]
		joint := "}'::" + c.typ + "[])"
		if !c.direct {
			joint = "}'::pg_catalog.text[])::" + c.typ
		}
		if n+1 < len(r.Columns) {
			joint += ", pg_catalog.unnest('{"
		}
		r.Joints = append(r.Joints, joint)
	}
	tail := strings.Join(exprs, ", ") + from + t.ifExists(existing)
	switch {
	case len(r.Columns) == 0:
		r.Head += tail
	case len(exprs) > 0:
		r.Joints[len(r.Joints)-1] += ", " + tail
	default:
		r.Joints[len(r.Joints)-1] += tail
	}
	return r
}

// ifExists is the clause that Existing asks for.
func (t *Target) ifExists(existing Existing) string {
	switch {
	case existing == Keep:
		return " ON CONFLICT (" + string(t.conflict) + ") DO NOTHING"
	case existing == Replace:
		var s Script
		s.onConflict(t)
		return s.String()
	}
	return ""
}

// SameKey is the condition that a column of the relation's key, of t, equals the value
// that an expression gives as text.
func (t *Target) SameKey(column int, text string) string {
	c := &t.columns[t.bySource[column]]
	return "t." + string(c.name) + " " + c.equal + " " + text + "::" + c.typ + c.suffix
}

// RowSecurity says that row-level security of the table applies to the role that
// writes to it.
func (t *Target) RowSecurity() bool { return t.table.RowSecurity }

// Frozen says that a column that is no key can be inserted and not updated.
func (t *Target) Frozen() bool { return t.frozen }

// Plain says that the table is an ordinary one without row-level security: its
// rows can be counted and compared where they are.
func (t *Target) Plain() bool { return t.table.Only && !t.table.RowSecurity }

// Name is the table's quoted name with its schema.
func (t *Target) Name() string { return string(t.name) }
