package wire

import (
	"encoding/binary"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// Numbers of values allocated at once: few at first, for a transaction of one
// row; each block is four times as large as the one before, up to 128 kB.
const (
	firstSlab = 16
	slabSize  = 4096
)

// slab hands out runs of values from large blocks.
type slab struct {
	free   []change.Value
	blocks [][]change.Value
	next   int // first block not handed out since recycle
}

// take returns n values to overwrite, never nil: a table may have no columns.
func (s *slab) take(n int) []change.Value {
	if n == 0 {
		return []change.Value{}
	}
	if n > len(s.free) {
		if n > slabSize {
			return make([]change.Value, n)
		}
		s.turn(n)
	}
	values := s.free[:n:n]
	s.free = s.free[n:]
	return values
}

// turn goes on to the next block that has n values.
func (s *slab) turn(n int) {
	for s.free = nil; len(s.free) < n; s.next++ {
		if s.next == len(s.blocks) {
			size := firstSlab
			if s.next > 0 {
				size = min(4*len(s.blocks[s.next-1]), slabSize)
			}
			s.blocks = append(s.blocks, make([]change.Value, max(size, n)))
		}
		s.free = s.blocks[s.next]
	}
}

func (s *slab) recycle() {
	s.next, s.free = 0, nil
}

// Kinds of values that our capture adds to pgoutput's: those an update left as
// they were. They are sent so that the row can be inserted should it be missing.
const (
	sameText = 's'
	sameNull = 'z'
)

// tuple decodes one row and returns what follows it. Only an update's new row
// may have values that are unchanged or the same.
func (d *Decoder) tuple(message byte, relation *change.Relation, b []byte) ([]change.Value, []byte, error) {
	if len(b) < 2 {
		return nil, nil, malformed(message, "it ends before a row")
	}
	n := int(binary.BigEndian.Uint16(b))
	if n != len(relation.Columns) {
		return nil, nil, malformed(message, "a row and its shape differ in their number of columns")
	}
	b = b[2:]
	values := d.slab.take(n)
	for i := range values {
		if len(b) == 0 {
			return nil, nil, malformed(message, "it ends inside a row")
		}
		value := &values[i]
		value.Kind, value.Same = change.Kind(b[0]), false
		switch b[0] {
		case sameText:
			value.Kind, value.Same = change.Text, true
		case sameNull:
			value.Kind, value.Same = change.Null, true
		}
		if (value.Same || value.Kind == change.Unchanged) && message != byte(change.Update) {
			return nil, nil, malformed(message, "a value is unchanged outside an update")
		}
		switch value.Kind {
		case change.Text:
			if len(b) < 5 {
				return nil, nil, malformed(message, "it ends inside a value's length")
			}
			length := int(binary.BigEndian.Uint32(b[1:]))
			b = b[5:]
			if length > len(b) {
				return nil, nil, malformed(message, "it ends inside a value")
			}
			value.Data = b[:length:length]
			b = b[length:]
		case change.Null, change.Unchanged:
			value.Data = nil
			b = b[1:]
		default:
			return nil, nil, malformed(message, "a value's kind is not known")
		}
	}
	return values, b, nil
}
