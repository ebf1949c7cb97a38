package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// shapeMap is the Shapes of tests.
type shapeMap map[uint32]*change.Relation

func (m shapeMap) Shape(id uint32) (*change.Relation, error) {
	if r := m[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("shape %d is not known", id)
}

func encodeTuple(b []byte, tuple []change.Value) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(tuple)))
	for _, v := range tuple {
		switch {
		case v.Same && v.Kind == change.Text:
			b = append(b, sameText)
		case v.Same:
			b = append(b, sameNull)
		default:
			b = append(b, byte(v.Kind))
		}
		if v.Kind == change.Text {
			b = binary.BigEndian.AppendUint32(b, uint32(len(v.Data)))
			b = append(b, v.Data...)
		}
	}
	return b
}

// encode writes a change as capture does, without the frame's length.
func encode(c *change.Change) []byte {
	var b []byte
	if c.Filters != nil {
		b = binary.BigEndian.AppendUint16([]byte{byte(filtered)}, uint16(len(c.Filters)))
		for _, f := range c.Filters {
			flags := byte(0)
			if f.Old {
				flags |= filterOldIn
			}
			if f.New {
				flags |= filterNewIn
			}
			b = append(binary.BigEndian.AppendUint32(b, uint32(f.Filter)), flags)
		}
	}
	b = append(b, byte(c.Op))
	switch c.Op {
	case change.Truncate:
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Truncated)))
		options := byte(0)
		if c.Cascade {
			options |= 1
		}
		if c.Restart {
			options |= 2
		}
		if c.Where != "" {
			options |= 4
		}
		b = append(b, options)
		for _, r := range c.Truncated {
			b = binary.BigEndian.AppendUint32(b, r.Shape)
		}
		if c.Where != "" {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(c.Where))), c.Where...)
		}
		return b
	case change.Event:
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, 0)
		b = append(append(b, c.Channel...), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Payload)))
		return append(b, c.Payload...)
	case change.DDL:
		b = append(append(b, c.Command.Role...), 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(c.Command.Sets)))
		for _, set := range c.Command.Sets {
			b = append(append(b, set...), 0)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(c.Command.Settings)))
		for _, s := range c.Command.Settings {
			b = append(append(append(append(b, s.Name...), 0), s.Value...), 0)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Command.Text)))
		return append(b, c.Command.Text...)
	}
	b = binary.BigEndian.AppendUint32(b, c.Relation.Shape)
	if c.Old != nil {
		mark := byte('K')
		if c.Relation.WholeRow() {
			mark = 'O'
		}
		b = encodeTuple(append(b, mark), c.Old)
	}
	if c.New != nil {
		b = encodeTuple(append(b, 'N'), c.New)
	}
	return b
}

func frame(b, message []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

func encodeRelation(r *change.Relation) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, r.Shape)
	b = append(append(b, r.Schema...), 0)
	b = append(append(b, r.Name...), 0)
	b = append(b, r.Identity)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Columns)))
	for _, c := range r.Columns {
		flags := byte(0)
		if c.Key {
			flags = 1
		}
		b = append(append(append(b, flags), c.Name...), 0)
		b = binary.BigEndian.AppendUint32(b, c.TypeOID)
		b = binary.BigEndian.AppendUint32(b, uint32(c.TypeMod))
	}
	return b
}
