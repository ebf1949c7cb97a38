package ship

import (
	"slices"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
)

// decode adds a chunk's changes to the piece, those from a command on to what is
// put off.
func (c *cutter) decode(chunk *queue.Chunk, p *piece, relations map[*change.Relation]bool) error {
	p.changes += int(chunk.Changes)
	taker := c.taker(p, relations)
	return c.decoder.Decode(chunk.Data, func(ch change.Change) error {
		if len(c.later) > 0 || c.concerns(&ch) {
			c.putOff(ch)
		} else {
			return taker.take(&ch)
		}
		return nil
	})
}

// taker adds changes of the transaction under way to a piece.
type taker struct {
	*cutter
	piece     *piece
	relations map[*change.Relation]bool
	tx        int
	// neighbours are mostly of one table
	last   *change.Relation
	table  *tableCounts     // of last; nil if it is not one of the subscription's
	wanted *change.Relation // the last one of which something is sent
}

func (c *cutter) taker(p *piece, relations map[*change.Relation]bool) *taker {
	return &taker{cutter: c, piece: p, relations: relations, tx: len(p.places) - 1}
}

// take adds a change if the subscription wants it.
func (t *taker) take(ch *change.Change) error {
	s, p, xid := t.shipper, t.piece, t.current.xid
	switch ch.Op {
	case change.Event:
		p.counts.events++
	case change.DDL: // of other subscriptions
		return nil
	case change.Truncate:
		for _, relation := range ch.Truncated {
			t.counted(relation).countCaptured(ch.Op, !t.lookup.wants(relation, ch.Op, xid))
		}
		ch.Truncated = slices.DeleteFunc(ch.Truncated, func(relation *change.Relation) bool {
			if ch.Where == "" && t.lookup.waits(relation, ch.Op, xid) {
				ch.Uncopied = append(ch.Uncopied, change.Uncopied{Relation: relation, KeepRows: s.onExisting(relation.OID) == existingError})
			}
			return !t.lookup.wants(relation, ch.Op, xid)
		})
		for _, relation := range ch.Truncated {
			if ch.Restart {
				s.sequences.restarted(relation.OID)
			}
			t.relations[relation] = true
			p.counts.of(relation.OID).shipped.add(ch.Op)
		}
		if len(ch.Truncated) == 0 {
			if len(ch.Uncopied) > 0 {
				t.add(ch) // to be part of its neighbour, or nothing
			}
			return nil
		}
	default:
		if ch.Relation != t.last {
			t.last, t.table = ch.Relation, t.counted(ch.Relation)
		}
		op := ch.Op // as it was made
		ok, err := t.lookup.admit(ch, xid)
		if err != nil {
			return unfit(p, &numbered{*ch, t.tx}, keyText(ch), err)
		}
		t.table.countCaptured(op, !ok)
		if !ok {
			return nil
		}
		if ch.Relation != t.wanted {
			t.wanted = ch.Relation
			t.relations[ch.Relation] = true
		}
		t.table.shipped.add(ch.Op)
		if len(s.sequences.blind) > 0 {
			s.sequences.see(ch)
		}
	}
	p.shipped++
	if s.letters.index.tables != nil {
		s.overtake(p.unit, ch, p.places[t.tx])
	}
	switch {
	case ch.Relation != nil && t.lookup.partial[ch.Relation.OID]:
		t.overCopy(ch, p, t.add)
	case ch.Op == change.Insert && t.lookup.kept[ch.Relation.OID]:
		upsert := *ch
		upsert.Op = change.Upsert
		t.add(&upsert)
	default:
		t.add(ch)
	}
	return nil
}

// add keeps a change to be written.
func (t *taker) add(ch *change.Change) {
	if t.piece.rows {
		t.shipper.addNumbered(*ch, t.tx)
	} else {
		t.shipper.fold.Add(ch, t.tx)
	}
}

// counted returns the piece's counts of a table, or nil if it is not one of the
// subscription's.
func (t *taker) counted(relation *change.Relation) *tableCounts {
	if t.lookup.tables[relation.OID] == nil {
		return nil
	}
	return t.piece.counts.of(relation.OID)
}
