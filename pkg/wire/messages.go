package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/jackc/pglogrepl"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// truncate decodes a Truncate message. pglogrepl does not check lengths, so
// they are checked before it.
func (d *Decoder) truncate(frame []byte) (change.Change, error) {
	const cascade, restart, condition = 1, 2, 4
	where := ""
	if len(frame) >= 10 && frame[5]&condition != 0 {
		// one table, and a string behind it
		if len(frame) < 14 || binary.BigEndian.Uint32(frame[1:]) != 1 || len(frame)-14 != int(binary.BigEndian.Uint32(frame[10:])) {
			return change.Change{}, malformed(frame[0], "its length does not fit its condition")
		}
		if where = string(frame[14:]); where == "" {
			return change.Change{}, malformed(frame[0], "its condition is empty")
		}
		frame = frame[:10]
	}
	if len(frame) < 10 || len(frame)-6 != 4*int(binary.BigEndian.Uint32(frame[1:])) {
		return change.Change{}, malformed(frame[0], "its length does not fit its number of tables")
	}
	var message pglogrepl.TruncateMessage
	if err := message.Decode(frame[1:]); err != nil {
		return change.Change{}, malformed(frame[0], err.Error())
	}
	c := change.Change{
		Op:        change.Truncate,
		Cascade:   message.Option&cascade != 0,
		Restart:   message.Option&restart != 0,
		Where:     where,
		Truncated: make([]*change.Relation, len(message.RelationIDs)),
	}
	for i, id := range message.RelationIDs {
		relation, err := d.relation(id)
		if err != nil {
			return change.Change{}, err
		}
		c.Truncated[i] = relation
	}
	return c, nil
}

// event decodes a logical decoding message: courier.enqueue's event.
func event(frame []byte) (change.Change, error) {
	const head = 10 // type, flags, location
	if len(frame) < head {
		return change.Change{}, malformed(frame[0], "it ends early")
	}
	end := bytes.IndexByte(frame[head:], 0)
	if end < 0 || len(frame) < head+end+5 {
		return change.Change{}, malformed(frame[0], "its channel does not end")
	}
	if len(frame)-(head+end+5) != int(binary.BigEndian.Uint32(frame[head+end+1:])) {
		return change.Change{}, malformed(frame[0], "its length does not fit its payload")
	}
	var message pglogrepl.LogicalDecodingMessage
	if err := message.Decode(frame[1:]); err != nil {
		return change.Change{}, malformed(frame[0], err.Error())
	}
	return change.Change{Op: change.Event, Channel: message.Prefix, Payload: message.Content}, nil
}
