package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pglogrepl"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// Shapes finds the relation a message was made with. It should return the same
// pointer for the same id as long as it can.
type Shapes interface {
	Shape(id uint32) (*change.Relation, error)
}

// ParseRelation decodes a shape's definition, a pgoutput Relation message. The
// source table's OID is not in it; the caller sets it. A malformed definition
// gives a *MalformedError.
func ParseRelation(definition []byte) (*change.Relation, error) {
	if len(definition) == 0 || definition[0] != 'R' {
		return nil, malformed(0, "a shape's definition does not start with R")
	}
	if err := checkRelation(definition[1:]); err != nil {
		return nil, err
	}
	message := new(pglogrepl.RelationMessage)
	if err := message.Decode(definition[1:]); err != nil {
		return nil, malformed('R', err.Error())
	}
	relation := &change.Relation{
		Shape:    message.RelationID,
		Schema:   message.Namespace,
		Name:     message.RelationName,
		Identity: message.ReplicaIdentity,
		Columns:  make([]change.Column, len(message.Columns)),
	}
	for i, column := range message.Columns {
		relation.Columns[i] = change.Column{
			Name:      column.Name,
			TypeOID:   column.DataType,
			TypeMod:   column.TypeModifier,
			Key:       column.Flags&1 != 0,
			Generated: column.Flags&2 != 0,
		}
	}
	switch relation.Identity {
	case 'd', 'n', 'i', 'f':
		return relation, nil
	}
	return nil, malformed('R', fmt.Sprintf("replica identity 0x%02X is not known", relation.Identity))
}

// checkRelation makes sure that pglogrepl's decoder, which does not check
// lengths, stays inside b and uses all of it.
func checkRelation(b []byte) error {
	rest := b
	skip := func(n int) bool {
		if len(rest) < n {
			return false
		}
		rest = rest[n:]
		return true
	}
	text := func() bool {
		end := bytes.IndexByte(rest, 0)
		return end >= 0 && skip(end+1)
	}
	if !skip(4) || !text() || !text() || !skip(1) || len(rest) < 2 {
		return malformed('R', "it ends early")
	}
	columns := int(binary.BigEndian.Uint16(rest))
	skip(2)
	for range columns {
		if !skip(1) || !text() || !skip(8) {
			return malformed('R', "it ends inside a column")
		}
	}
	if len(rest) != 0 {
		return malformed('R', "bytes are left over")
	}
	return nil
}
