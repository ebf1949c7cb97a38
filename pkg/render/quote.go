package render

import (
	"bytes"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// What a byte asks for inside an array literal. Bytes of multi-byte characters
// ask for nothing: in every encoding a server may have, they are above 0x7F.
const (
	needsQuotes   = 1 << iota // double quotes around the element
	needsEscape               // a backslash before it
	needsDoubling             // it is the literal's own quote
)

var classes = func() (c [256]byte) {
	for _, b := range []byte("{}, \t\n\v\f\r") {
		c[b] = needsQuotes
	}
	c['"'] = needsQuotes | needsEscape
	c['\\'] = needsQuotes | needsEscape
	c['\''] = needsDoubling
	return c
}()

// appendIdent appends a quoted identifier.
func appendIdent(b []byte, name string) []byte {
	b = append(b, '"')
	for i := 0; i < len(name); i++ {
		if name[i] == '"' {
			b = append(b, '"')
		}
		b = append(b, name[i])
	}
	return append(b, '"')
}

// appendName appends a quoted, schema-qualified name.
func appendName(b []byte, schema, name string) []byte {
	b = appendIdent(b, schema)
	b = append(b, '.')
	return appendIdent(b, name)
}

// largeText is from where on room for a text is made at once: growing step by
// step would copy it several times over.
const largeText = 1 << 20

// grow makes room for so many bytes, and not for more: what is made is cleared, and so
// really there.
func grow(b []byte, length int) []byte {
	if cap(b)-len(b) >= length {
		return b
	}
	grown := make([]byte, len(b), len(b)+length)
	copy(grown, b)
	return grown
}

// Quoted is how long a text is at most as a literal or an element of one.
func Quoted(text []byte) int {
	length := len(text) + len(`""`)
	for _, c := range text {
		if classes[c]&(needsEscape|needsDoubling) != 0 {
			length++
		}
	}
	return length
}

// appendLiteral appends a string literal; standard_conforming_strings is on.
func appendLiteral[T string | []byte](b []byte, text T) []byte {
	data := []byte(text)
	if len(data) >= largeText {
		b = grow(b, len(data)+bytes.Count(data, []byte("'"))+2)
	}
	b = append(b, '\'')
	b = appendQuoted(b, data)
	return append(b, '\'')
}

// appendQuoted appends a part of a string literal.
func appendQuoted(b, data []byte) []byte {
	for {
		i := bytes.IndexByte(data, '\'')
		if i < 0 {
			return append(b, data...)
		}
		b = append(b, data[:i+1]...)
		b = append(b, '\'')
		data = data[i+1:]
	}
}

// appendValue appends a value as a literal or NULL.
func appendValue(b []byte, v *change.Value) []byte {
	if v.Kind != change.Text {
		return append(b, "NULL"...)
	}
	return appendLiteral(b, v.Data)
}

// appendElement appends a value as an element of an array inside a literal.
func appendElement(b []byte, v *change.Value) []byte {
	if v.Kind != change.Text {
		return append(b, "NULL"...)
	}
	data := v.Data
	if len(data) >= largeText {
		b = grow(b, Quoted(data))
	}
	var class byte
	for _, c := range data {
		class |= classes[c]
	}
	if class == 0 && (len(data) != 4 || !bytes.EqualFold(data, []byte("null"))) && len(data) > 0 {
		return append(b, data...)
	}
	b = append(b, '"')
	if class&(needsEscape|needsDoubling) == 0 {
		b = append(b, data...)
		return append(b, '"')
	}
	from := 0
	for i, c := range data {
		if class := classes[c]; class&(needsEscape|needsDoubling) != 0 {
			b = append(b, data[from:i]...)
			from = i
			if class&needsEscape != 0 {
				b = append(b, '\\')
			} else {
				b = append(b, '\'')
			}
		}
	}
	b = append(b, data[from:]...)
	return append(b, '"')
}
