package render

import (
	"bytes"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

// A set of texts is written as unnest(string_to_array('…', separator)): the target
// takes a text apart in half the time that it needs for an array literal, which it
// goes through byte by byte three times. A type whose input function takes memory, as
// that of jsonb does, gains more: the cast behind it is made row by row, and gives the
// memory back each time. Numbers and times are cheaper as arrays of their type.

const (
	// separator is between the texts: ASCII's unit separator. In every encoding that a
	// server may have it is part of no other character.
	separator = '\x1f'
	// nullText stands for NULL: ASCII's substitute.
	nullText = '\x1a'
)

// splitTypes are the types whose values are texts, or better cast from one each. Their
// names are those that PostgreSQL gives types of its own, without a modifier: a cast to
// one cuts nothing off.
var splitTypes = map[string]bool{
	"text": true, "character varying": true, "json": true, "jsonb": true, "bytea": true, "uuid": true,
}

// unnestText appends the rows' values of one column, two at least, as a set made of one
// text. It appends nothing and returns false if a value can't be told apart in it.
func (s *Script) unnestText(c *column, rows []batch.Row, key bool) bool {
	b := append(s.text, "pg_catalog.unnest(pg_catalog.string_to_array('"...)
	nulls := false
	for i := range rows {
		if i > 0 {
			b = append(b, separator)
		}
		tuple := rows[i].New
		if key {
			tuple = rows[i].Key
		}
		value := &tuple[c.source]
		if value.Kind != change.Text {
			b = append(b, nullText)
			nulls = true
			continue
		}
		if bytes.IndexByte(value.Data, separator) >= 0 || len(value.Data) == 1 && value.Data[0] == nullText {
			return false
		}
		if len(value.Data) >= largeText {
			b = grow(b, len(value.Data)+bytes.Count(value.Data, []byte("'")))
		}
		b = appendQuoted(b, value.Data)
	}
	b = append(b, '\'', ',', ' ', '\'', separator, '\'')
	if nulls {
		b = append(b, ',', ' ', '\'', nullText, '\'')
	}
	b = append(b, "))"...)
	if c.typ != "text" {
		b = append(b, "::"...)
		b = append(b, c.typ...)
	}
	s.text = b
	return true
}
