package change

import "sync"

// Column describes a column as it was when a change was captured.
type Column struct {
	Name    string
	TypeOID uint32
	TypeMod int32
	Key     bool // part of the key that identifies a row
	// Generated says that the value is computed from others of the row. Such a
	// column is there only if it is part of the key.
	Generated bool
}

// Relation is one shape of a table: its columns at some moment. A change keeps
// the shape it was made with, so one table may have several relations. It must
// not be modified once a method has been called.
type Relation struct {
	Shape    uint32 // identifies the shape
	OID      uint32 // the source table; 0 when not known
	Schema   string
	Name     string
	Identity byte // replica identity: d, n, i or f
	Columns  []Column

	once sync.Once
	keys []int
}

// Keys returns the indexes of the key columns, ascending. The caller must not
// modify the slice.
func (r *Relation) Keys() []int {
	r.once.Do(func() {
		for i := range r.Columns {
			if r.Columns[i].Key {
				r.keys = append(r.keys, i)
			}
		}
	})
	return r.keys
}

// WholeRow reports whether rows are identified by all their columns: REPLICA
// IDENTITY FULL on a table without a primary key.
func (r *Relation) WholeRow() bool {
	return r.Identity == 'f' && len(r.Keys()) == len(r.Columns)
}

// HasKey reports whether a key identifies a row. A table without one, and not
// WholeRow, takes inserts only.
func (r *Relation) HasKey() bool {
	return len(r.Keys()) > 0 && !r.WholeRow()
}

// String returns schema.name for messages; it is not quoted for SQL.
func (r *Relation) String() string {
	return r.Schema + "." + r.Name
}
