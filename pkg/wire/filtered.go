package wire

import (
	"encoding/binary"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// filtered is the message of a change of a table with row filters. It begins
// with the number of filters (2 bytes) and, for each, its number (4 bytes) and
// which rows it lets in (1 byte: filterOldIn, filterNewIn); the message of the
// change follows.
const (
	filtered    change.Op = 'F'
	filterOldIn           = 1
	filterNewIn           = 2

	filterSize = 5
)

func (d *Decoder) filtered(frame []byte, emit func(change.Change) error) error {
	if len(frame) < 3 {
		return malformed(frame[0], "it ends early")
	}
	n := int(binary.BigEndian.Uint16(frame[1:]))
	rest := frame[3:]
	if len(rest) <= n*filterSize {
		return malformed(frame[0], "it ends before the change")
	}
	d.filters = d.filters[:0]
	for range n {
		flags := rest[4]
		if flags&^(filterOldIn|filterNewIn) != 0 {
			return malformed(frame[0], "a filter's result is not known")
		}
		d.filters = append(d.filters, change.FilterResult{Filter: int32(binary.BigEndian.Uint32(rest)),
			Old: flags&filterOldIn != 0, New: flags&filterNewIn != 0})
		rest = rest[filterSize:]
	}
	switch change.Op(rest[0]) {
	case change.Insert, change.Update, change.Delete, change.Upsert:
	default:
		return malformed(frame[0], "what follows is not the change of a row")
	}
	return d.message(rest, func(c change.Change) error {
		c.Filters = d.filters
		return emit(c)
	})
}
