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
	Equal     string
	Generated bool
	Identity  byte // attidentity: 0 or ' ' for none, a (always), d (by default)
}

// Table describes the target table.
type Table struct {
	Schema, Name string
	Columns      []Column
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
