package render

import (
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// DriftError says that the target table does not fit the source table. The
// names are of the target.
type DriftError struct {
	Schema, Table string
	Column        string // empty when it is about the whole table
	Type          string // the column's type on the source, if the caller has filled it in
	Reason        string
	missing       bool // adding the column or table helps
}

// Error implements error.
func (e *DriftError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("write to table %s.%s: %s", e.Schema, e.Table, e.Reason)
	}
	return fmt.Sprintf("write to table %s.%s, column %s: %s", e.Schema, e.Table, e.Column, e.Reason)
}

// Hint says how the target can be repaired.
func (e *DriftError) Hint() string {
	name := string(appendName(nil, e.Schema, e.Table))
	switch {
	case e.missing && e.Column == "":
		return fmt.Sprintf("Create table %s on the target, or remove it from the replication set.", name)
	case e.missing:
		typ := e.Type
		if typ == "" {
			typ = "…"
		}
		return fmt.Sprintf("On the target: ALTER TABLE %s ADD COLUMN %s %s;", name, appendIdent(nil, e.Column), typ)
	}
	return "Make the column an ordinary one on the target, or leave it out of the replication set."
}

// NoKeyError says that an update or delete cannot find its row.
type NoKeyError struct {
	Schema, Table string // on the source
	Op            change.Op
}

// Error implements error.
func (e *NoKeyError) Error() string {
	return fmt.Sprintf("%s a row of table %s.%s: the table has no key", e.Op, e.Schema, e.Table)
}

// Hint says how the source can be repaired.
func (e *NoKeyError) Hint() string {
	return "Add a primary key on the source, or set REPLICA IDENTITY FULL or USING INDEX."
}
