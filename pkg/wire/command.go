package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// command decodes a DDL message, which pgoutput does not have:
//
//	Byte1('Q')
//	String  role that ran the command
//	Int16   number of replication sets, and for each
//	        String  its name
//	Int16   number of settings, and for each
//	        String  its name
//	        String  its value
//	Int32   length of the command
//	Byten   the command
func command(frame []byte) (change.Change, error) {
	r := reader{rest: frame[1:]}
	c := &change.Command{Role: r.text()}
	for n := r.count(); n > 0 && !r.short; n-- {
		c.Sets = append(c.Sets, r.text())
	}
	for n := r.count(); n > 0 && !r.short; n-- {
		name := r.text()
		c.Settings = append(c.Settings, change.Setting{Name: name, Value: r.text()})
	}
	if r.short || len(r.rest) < 4 {
		return change.Change{}, malformed(frame[0], "it ends early")
	}
	if text := r.rest[4:]; len(text) == int(binary.BigEndian.Uint32(r.rest)) {
		c.Text = string(text)
		return change.Change{Op: change.DDL, Command: c}, nil
	}
	return change.Change{}, malformed(frame[0], "its length does not fit its command")
}

// reader takes a message apart; short says that it has ended early.
type reader struct {
	rest  []byte
	short bool
}

// text reads a text that ends in a zero byte.
func (r *reader) text() string {
	end := bytes.IndexByte(r.rest, 0)
	if end < 0 {
		r.short, r.rest = true, nil
		return ""
	}
	text := string(r.rest[:end])
	r.rest = r.rest[end+1:]
	return text
}

// count reads an Int16.
func (r *reader) count() int {
	if len(r.rest) < 2 {
		r.short, r.rest = true, nil
		return 0
	}
	n := int(binary.BigEndian.Uint16(r.rest))
	r.rest = r.rest[2:]
	return n
}
