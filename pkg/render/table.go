package render

import "github.com/pg-courier/pg_courier/pkg/change"

// Column describes a column of the target table.
type Column struct {
	Name string
	// Type is the SQL name of its type, without typmod: format_type(oid, -1)
	// under search_path = pg_catalog.
	Type string
	// Direct says that '{…}'::Type[] is a valid literal for many values: the
	// type has an array type with delimiter ',' and is no array or composite.
	// Others go as text[] and are cast one by one.
	Direct bool
	// Equal is the operator that compares keys, such as OPERATOR(public.=); by
	// default =. It is needed for types of extensions outside pg_catalog.
	Equal string
	// Collation is the quoted name of the column's collation, if it is another
	// than that of the column's type and the type has one of its own: values of
	// the type then need it to be compared with the column.
	Collation string
	Generated bool
	Identity  byte // attidentity: 0 or ' ' for none, a (always), d (by default)
}

// Table describes the target table.
type Table struct {
	Schema, Name string
	Columns      []Column
	// Only says that it is an ordinary table: what is written to it is written to
	// ONLY it, and tables that inherit from it are left alone.
	Only bool
	// RowSecurity says that row-level security of the table applies to the role.
	// It acts on statements that write to the table, and for no others: where it
	// is not expected, it has to be an error.
	RowSecurity bool
	// View says that it is a view, whose rows have no place of their own. Unfit
	// says why nothing can be written to it; "" if something can.
	View  bool
	Unfit string
}

// Column returns the column of that name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Filter says what of a table a subscription takes.
type Filter struct {
	Columns                          map[string]bool // by name; nil for all. Key columns are always taken
	Insert, Update, Delete, Truncate bool
	// Partial says that the table is being copied: rows that are to be updated or
	// deleted may be missing.
	Partial bool
}

// complete reports whether a row that is not there is a conflict. A nil filter
// knows of no copy.
func (f *Filter) complete() bool { return f == nil || !f.Partial }

// expected is how many rows a statement for so many finds if there is no conflict,
// or 0 where nobody knows.
func (t *Target) expected(rows int) int {
	if !t.filter.complete() {
		return 0
	}
	return rows
}

// Allows reports whether operations of that kind are taken. A caller drops what
// is not before folding, since folding merges operations. A nil filter takes
// everything.
func (f *Filter) Allows(op change.Op) bool {
	if f == nil {
		return true
	}
	switch op {
	case change.Insert:
		return f.Insert
	case change.Update:
		return f.Update
	case change.Delete:
		return f.Delete
	case change.Truncate:
		return f.Truncate
	case change.Upsert:
		return f.Insert || f.Update
	}
	return true
}
