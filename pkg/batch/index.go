package batch

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// index finds entities by key. It is an open-addressing table that keeps no
// keys of its own: it compares with the tuple of the entity a slot points to.
// Slots are not removed; one whose entity has lost its key is passed over.
type index struct {
	seed    maphash.Seed
	slots   []int32 // entity + 1, or 0; a power of two long
	used    int
	scratch []byte
}

func (x *index) reset() {
	clear(x.slots)
	x.used = 0
}

// hash hashes a tuple's key columns.
func (x *index) hash(keys []int, tuple []change.Value) uint64 {
	if len(keys) == 1 {
		return maphash.Bytes(x.seed, tuple[keys[0]].Data)
	}
	b := x.scratch[:0]
	for _, i := range keys {
		data := tuple[i].Data
		b = binary.AppendUvarint(b, uint64(len(data)))
		b = append(b, data...)
	}
	x.scratch = b
	return maphash.Bytes(x.seed, b)
}

// sameKey reports whether two tuples have the same key.
func sameKey(keys []int, a, b []change.Value) bool {
	for _, i := range keys {
		if !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}

// find returns the entity with a tuple's key, or -1.
func (x *index) find(t *table, hash uint64, tuple []change.Value) int {
	if len(x.slots) == 0 {
		return -1
	}
	mask := uint64(len(x.slots) - 1)
	for at := hash & mask; x.slots[at] != 0; at = (at + 1) & mask {
		i := int(x.slots[at] - 1)
		if e := &t.entities[i]; e.hash == hash && e.key != nil && sameKey(t.keys, e.key, tuple) {
			return i
		}
	}
	return -1
}

// set points the key of entity i at it. The entity that had the key loses it.
func (x *index) set(t *table, i int) {
	if 2*(x.used+1) > len(x.slots) {
		x.grow(t, i)
	}
	e := &t.entities[i]
	mask := uint64(len(x.slots) - 1)
	at := e.hash & mask
	for ; x.slots[at] != 0; at = (at + 1) & mask {
		other := int(x.slots[at] - 1)
		if o := &t.entities[other]; other != i && o.hash == e.hash && o.key != nil && sameKey(t.keys, o.key, e.key) {
			o.key = nil
			x.slots[at] = int32(i + 1)
			return
		}
	}
	x.slots[at] = int32(i + 1)
	x.used++
}

// grow makes room for the entities that have a key, all but the one to be set.
func (x *index) grow(t *table, except int) {
	x.slots = make([]int32, max(1024, 2*len(x.slots)))
	x.used = 0
	mask := uint64(len(x.slots) - 1)
	for i := range t.entities {
		e := &t.entities[i]
		if e.key == nil || i == except {
			continue
		}
		at := e.hash & mask
		for x.slots[at] != 0 {
			at = (at + 1) & mask
		}
		x.slots[at] = int32(i + 1)
		x.used++
	}
}
