package compare

import (
	"fmt"
	"strconv"
)

// Texts of rows are in the database's encoding, which need not be UTF-8, so JSON
// that goes to the database is written byte by byte.

func appendText(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(text) {
		switch x := text[i]; {
		case x == '"' || x == '\\':
			b = append(b, '\\', x)
		case x < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[x>>4], digits[x&15])
		default:
			b = append(b, x)
		}
	}
	return append(b, '"')
}

func appendKey(b []byte, columns, key []string) []byte {
	b = append(b, '{')
	for i := range columns {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(appendText(b, columns[i]), ": "...)
		b = appendText(b, key[i])
	}
	return append(b, '}')
}

// keysJSON writes keys as courier.resend() takes them.
func keysJSON(columns []string, keys [][]string) string {
	b := []byte{'['}
	for i, key := range keys {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendKey(b, columns, key)
	}
	return string(append(b, ']'))
}

// JSON writes answers as an array of objects. It is in the database's encoding.
func JSON(tables []Table) []byte {
	b := []byte{'['}
	for i := range tables {
		t := &tables[i]
		if i > 0 {
			b = append(b, ",\n "...)
		}
		b = append(b, `{"relation": `...)
		b = strconv.AppendUint(b, uint64(t.OID), 10)
		b = appendText(append(b, `, "table": `...), t.Name)
		b = strconv.AppendBool(append(b, `, "equal": `...), t.Differences() == 0)
		for _, n := range []struct {
			name  string
			value int64
		}{{"rows_compared", t.Rows}, {"missing", t.Missing}, {"extra", t.Extra}, {"different", t.Different},
			{"unsettled", t.Unsettled}, {"dead_lettered", t.DeadLettered}, {"keys_not_shown", t.NotShown}, {"resent", t.Resent}} {
			b = fmt.Appendf(b, `, "%s": %d`, n.name, n.value)
		}
		b = append(b, `, "keys": [`...)
		for j, d := range t.Keys {
			if j > 0 {
				b = append(b, ", "...)
			}
			b = appendKey(append(b, `{"key": `...), d.Columns, d.Key)
			b = appendText(append(b, `, "difference": `...), string(d.Kind))
			if d.DeadLetter {
				b = append(b, `, "dead_letter": true`...)
			}
			b = append(b, '}')
		}
		b = append(b, `], "statements": [`...)
		for j, s := range t.Statements {
			if j > 0 {
				b = append(b, ", "...)
			}
			b = appendText(b, s)
		}
		b = append(b, `], "note": `...)
		if t.Note == "" {
			b = append(b, "null"...)
		} else {
			b = appendText(b, t.Note)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}
