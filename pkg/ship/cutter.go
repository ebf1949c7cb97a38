package ship

import (
	"context"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/wire"
)

// cutter cuts an interval into pieces.
type cutter struct {
	shipper  *Shipper
	lookup   lookup
	interval *queue.Interval
	pages    *queue.Pages
	decoder  *wire.Decoder

	waited    time.Duration // for others, while the piece was made
	held      []queue.Chunk // read, not yet decoded
	flushed   change.WAL    // of the source, behind what is held
	exhausted bool
	finished  bool
	space     space           // of the piece being cut
	current   place           // transaction under way, xid 0 between transactions
	later     []change.Change // of it, from a command on

	// The unit's first piece while its target transaction is open.
	stream *piece
}

func (s *Shipper) newCutter(ctx context.Context, interval *queue.Interval) *cutter {
	l := lookup{s.catalog, ctx}
	interval.Subscription = s.sub.ID
	reader, ahead := s.reader, true
	if reader == nil {
		reader, ahead = s.session, false
	}
	return &cutter{shipper: s, lookup: l, interval: interval, pages: interval.Pages(ctx, reader, ahead),
		decoder: wire.NewDecoder(l)}
}

// inUnit says that a transaction on the target is open.
func (c *cutter) inUnit() bool { return c.stream != nil }

// close ends the reading of the interval.
func (c *cutter) close() { c.pages.Close() }

// peek returns the next chunk, or nil at the interval's end.
func (c *cutter) peek(ctx context.Context) (*queue.Chunk, error) {
	if len(c.held) == 0 && !c.exhausted {
		asked := c.shipper.now()
		page, err := c.pages.Next(ctx)
		c.waited += c.shipper.now().Sub(asked)
		if err != nil {
			return nil, err
		}
		c.held, c.exhausted = page.Chunks, page.Last
		if page.Flushed != (change.WAL{}) {
			c.flushed = page.Flushed
		}
	}
	if len(c.held) == 0 {
		return nil, nil
	}
	return &c.held[0], nil
}

// next reads, folds and renders the next piece into the shipper's script; nil
// when the interval is done.
func (c *cutter) next(ctx context.Context) (*piece, error) {
	if c.finished {
		return nil, nil
	}
	began := c.shipper.now()
	c.waited = 0
	p, err := c.cut(ctx)
	if p != nil {
		p.counts.read = c.pages.Took()
		p.counts.render = c.shipper.now().Sub(began) - c.waited
	}
	return p, err
}

func (c *cutter) cut(ctx context.Context) (*piece, error) {
	s := c.shipper
	s.fold.Reset()
	s.fold.Rewrites = s.deferred != nil
	s.changes = s.changes[:0]
	c.decoder.Recycle()
	p := &piece{rows: s.slowUntil != place{} && (s.deferred == nil || s.runs), counts: newCounts(), unit: c.stream}
	if p.unit == nil {
		p.unit = p
	}
	c.space = s.space(p.rows)
	relations := make(map[*change.Relation]bool)
	var done place // last transaction that is whole in this piece
	if len(c.later) > 0 {
		switch ended, err := c.takeUp(p, relations); {
		case err != nil:
			return nil, c.settleFirst(ctx, err)
		case ended:
			return p, c.finish(ctx, p, done, relations)
		}
	}

	for {
		chunk, err := c.peek(ctx)
		if err != nil {
			return nil, err
		}
		if c.current.xid != 0 && (chunk == nil || chunk.XID != c.current.xid) {
			done, c.current = c.current, place{}
			if c.stream != nil || p.pass != nil || c.full(p) || len(p.places) == s.limit {
				break
			}
		}
		if chunk == nil {
			break
		}
		if c.current.xid == chunk.XID && c.full(p) {
			if c.stream == nil {
				c.stream, p.begins = p, true
			}
			break
		}
		if c.current.xid == 0 {
			at := place{chunk.K, chunk.XID}
			if l := s.letters.passing[at]; l != nil {
				if len(p.places) > 0 {
					break // a unit of its own
				}
				p.pass, l.inForce = l, true
			}
			c.current = at
		}
		if len(p.places) == 0 || p.places[len(p.places)-1] != c.current {
			p.places = append(p.places, c.current)
		}
		if p.pass == nil {
			if err = c.decode(chunk, p, relations); err != nil {
				return nil, c.settleFirst(ctx, err)
			}
			p.bytes += len(chunk.Data)
		}
		c.held = c.held[1:]
		if len(c.later) > 0 {
			if c.stream == nil {
				c.stream, p.begins = p, true
			}
			break
		}
	}
	return p, c.finish(ctx, p, done, relations)
}

// settleFirst returns the error of a piece that can't be made once those before it
// are settled, which are not to be given up: theirs, if there is one, comes first.
func (c *cutter) settleFirst(ctx context.Context, err error) error {
	if settled := c.shipper.settle(ctx); settled != nil {
		return settled
	}
	return err
}

// finish decides what position the piece leads to, and renders it.
func (c *cutter) finish(ctx context.Context, p *piece, done place, relations map[*change.Relation]bool) error {
	p.net = c.net(p)
	p.ends = c.current.xid == 0
	switch {
	case p.begins: // the transaction that is streamed is the unit's last
		p.position = c.inside(c.current)
		p.head = p.position.String()
		return c.render(ctx, p, relations, "BEGIN", "")
	case c.stream != nil && !p.ends:
		if p.empty = p.shipped == 0; p.empty { // changes of others' tables
			return nil
		}
		return c.render(ctx, p, relations, "", "")
	case c.stream != nil:
		p.position, p.head = c.stream.position, c.stream.head
		c.stream = nil
		return c.render(ctx, p, relations, "", "COMMIT")
	}
	p.position = c.inside(done)
	if len(c.held) == 0 && c.exhausted {
		p.position = change.Position{Start: c.interval.End, Flushed: c.flushed}
		p.last, c.finished = true, true
	}
	p.head = p.position.String()
	if p.empty = p.shipped == 0 && p.pass == nil; p.empty {
		return nil
	}
	return c.render(ctx, p, relations, "", "")
}

func (c *cutter) inside(at place) change.Position {
	end := c.interval.End
	return change.Position{Start: c.interval.Start, End: &end, K: at.k, XID: at.xid, Flushed: c.flushed}
}
