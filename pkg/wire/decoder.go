package wire

import (
	"encoding/binary"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// maxFrame bounds a frame: a row is below 1 GB a value, and its text form is
// built in a PostgreSQL buffer that ends at 1 GB.
const maxFrame = 1 << 30

// Decoder decodes the chunks of a transaction, in order. It is not safe for
// concurrent use.
type Decoder struct {
	shapes Shapes
	last   *change.Relation // relation of the last message, by lastID
	lastID uint32
	slab   slab

	filters []change.FilterResult // of the change being decoded

	partial []byte // body of an unfinished frame, as far as it has come
	missing int    // bytes it still lacks
	largest []byte // frame decoded since Recycle
	decoded int    // bytes since then
}

// trusted is how much of a frame has to be there for its length to be believed.
const trusted = 1 << 20

// NewDecoder returns a decoder that finds relations through shapes.
func NewDecoder(shapes Shapes) *Decoder {
	return &Decoder{shapes: shapes}
}

// Decode decodes one chunk and calls emit for every change that ends in it.
// Errors are a *MalformedError, or come from Shapes or emit. After an error the
// decoder must be Reset.
func (d *Decoder) Decode(data []byte, emit func(change.Change) error) error {
	if d.missing > 0 {
		n := min(d.missing, len(data))
		if held := len(d.partial); cap(d.partial)-held < n {
			// by doubling, and then at once: a large one is copied less
			room := held + d.missing
			if held < trusted {
				room = min(room, 2*cap(d.partial)+n)
			}
			grown := make([]byte, held, room)
			copy(grown, d.partial)
			d.partial = grown
		}
		d.partial = append(d.partial, data[:n]...)
		data = data[n:]
		if d.missing -= n; d.missing > 0 {
			return nil
		}
		frame := d.partial
		d.partial = nil // the change aliases it now
		if err := d.message(frame, emit); err != nil {
			return err
		}
	}
	for len(data) > 0 {
		if len(data) < 4 {
			return malformed(0, "a frame's length is cut")
		}
		length := int(binary.BigEndian.Uint32(data))
		data = data[4:]
		if length == 0 || length > maxFrame {
			return malformed(0, "a frame's length is out of range")
		}
		if length > len(data) {
			// Not allocated in full at once: the length may be wrong.
			d.partial = append(make([]byte, 0, min(length, 2*len(data)+4096)), data...)
			d.missing = length - len(data)
			return nil
		}
		if err := d.message(data[:length:length], emit); err != nil {
			return err
		}
		data = data[length:]
	}
	return nil
}

// Pending reports whether a frame is incomplete, so that more of the
// transaction's chunks must follow.
func (d *Decoder) Pending() bool { return d.missing > 0 }

// Reset forgets a partial frame. Changes decoded before stay valid.
func (d *Decoder) Reset() {
	d.partial, d.missing = nil, 0
}

// Recycle lets the decoder reuse the tuples it has handed out. No change
// decoded before may be used after it.
func (d *Decoder) Recycle() {
	d.slab.recycle()
	d.largest, d.decoded = nil, 0
}

// Release is Recycle that keeps no memory: tuples refer to frames, which may be large.
func (d *Decoder) Release() {
	d.slab = slab{}
	d.largest, d.decoded = nil, 0
}

// Largest returns the largest frame decoded since Recycle, and how long the others are.
func (d *Decoder) Largest() (frame []byte, others int) { return d.largest, d.decoded - len(d.largest) }

// Forget drops the cached relation, so that the next message asks Shapes.
func (d *Decoder) Forget() { d.last, d.lastID = nil, 0 }

func (d *Decoder) relation(id uint32) (*change.Relation, error) {
	if d.last != nil && d.lastID == id {
		return d.last, nil
	}
	relation, err := d.shapes.Shape(id)
	if err != nil {
		return nil, err
	}
	d.last, d.lastID = relation, id
	return relation, nil
}

func (d *Decoder) message(frame []byte, emit func(change.Change) error) error {
	d.decoded += len(frame)
	if len(frame) > len(d.largest) {
		d.largest = frame
	}
	op := change.Op(frame[0])
	switch op {
	case change.Truncate:
		c, err := d.truncate(frame)
		if err != nil {
			return err
		}
		return emit(c)
	case change.Event:
		c, err := event(frame)
		if err != nil {
			return err
		}
		return emit(c)
	case change.DDL:
		c, err := command(frame)
		if err != nil {
			return err
		}
		return emit(c)
	case change.Insert, change.Update, change.Delete, change.Upsert:
	case filtered:
		return d.filtered(frame, emit)
	default:
		return malformed(frame[0], "message type is not known")
	}
	if len(frame) < 6 {
		return malformed(frame[0], "it ends early")
	}
	relation, err := d.relation(binary.BigEndian.Uint32(frame[1:]))
	if err != nil {
		return err
	}
	c := change.Change{Op: op, Relation: relation}
	mark, rest := frame[5], frame[6:]
	if mark == 'K' || mark == 'O' {
		if op != change.Update && op != change.Delete {
			return malformed(frame[0], "an old row where there can be none")
		}
		if c.Old, rest, err = d.tuple(frame[0], relation, rest); err != nil {
			return err
		}
		if op == change.Update {
			if len(rest) == 0 {
				return malformed(frame[0], "the new row is missing")
			}
			mark, rest = rest[0], rest[1:]
		}
	}
	if op != change.Delete {
		if mark != 'N' {
			return malformed(frame[0], "the new row is missing")
		}
		if c.New, rest, err = d.tuple(frame[0], relation, rest); err != nil {
			return err
		}
		if err = completeKey(relation, &c); err != nil {
			return err
		}
	} else if c.Old == nil {
		return malformed(frame[0], "the old row is missing")
	}
	if len(rest) != 0 {
		return malformed(frame[0], "bytes are left over")
	}
	return emit(c)
}

// completeKey takes key values that are out of line in the new row (TOASTed,
// unchanged) from the old one, so that New always has its key.
func completeKey(relation *change.Relation, c *change.Change) error {
	for _, i := range relation.Keys() {
		if c.New[i].Kind != change.Unchanged {
			continue
		}
		if c.Old == nil || c.Old[i].Kind != change.Text {
			if relation.WholeRow() {
				continue
			}
			return malformed(byte(c.Op), "a key column has no value")
		}
		c.New[i] = c.Old[i]
	}
	return nil
}
