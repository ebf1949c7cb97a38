package ship

import (
	"bytes"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// A letter's changes are written byte by byte, not by encoding/json: texts are
// in the database's encoding, which need not be UTF-8, and go through as they
// are.

func (c *content) begin(op change.Op) {
	if c.count > 0 {
		c.changes = append(c.changes, ",\n "...)
	}
	c.count++
	c.changes = append(c.changes, `{"op": "`...)
	c.changes = append(append(c.changes, op.String()...), '"')
}

func (c *content) end() { c.changes = append(c.changes, '}') }

// text adds a field.
func (c *content) text(name, value string) {
	c.name(name)
	c.changes = appendJSON(c.changes, []byte(value))
}

func (c *content) name(name string) {
	c.changes = append(c.changes, `, "`...)
	c.changes = append(append(c.changes, name...), `": `...)
}

// flag adds a field if it is true.
func (c *content) flag(name string, value bool) {
	if value {
		c.name(name)
		c.changes = append(c.changes, "true"...)
	}
}

func (c *content) table(relation *change.Relation) {
	c.text("schema", relation.Schema)
	c.text("table", relation.Name)
}

// columns adds an object of those columns that are wanted, or nothing if there
// are none; "new" is there in any case.
func (c *content) columns(name string, relation *change.Relation, row []change.Value, wanted func(i int) bool) {
	begun := false
	for i := range row {
		if !wanted(i) || row[i].Kind == change.Unchanged {
			continue
		}
		if begun {
			c.changes = append(c.changes, ", "...)
		} else {
			c.name(name)
			c.changes = append(c.changes, '{')
			begun = true
		}
		c.changes = append(appendJSON(c.changes, []byte(relation.Columns[i].Name)), ": "...)
		if row[i].Kind == change.Null {
			c.changes = append(c.changes, "null"...)
		} else {
			c.changes = appendJSON(c.changes, row[i].Data)
		}
	}
	switch {
	case begun:
		c.changes = append(c.changes, '}')
	case name == "new":
		c.name(name)
		c.changes = append(c.changes, "{}"...)
	}
}

// appendJSON appends a string in quotes.
func appendJSON(to []byte, text []byte) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			to = append(to, '\\', b)
		case b < ' ':
			to = append(to, '\\', 'u', '0', '0', digits[b>>4], digits[b&15])
		default:
			to = append(to, b)
		}
	}
	return append(to, '"')
}

func sameValue(a, b *change.Value) bool {
	return a.Kind == b.Kind && bytes.Equal(a.Data, b.Data)
}
