package ship

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/wire"
)

// place is a transaction's place in the queue.
type place struct {
	k   change.LSN
	xid uint64
}

// before reports whether p comes before other.
func (p place) before(other place) bool {
	return p.k < other.k || (p.k == other.k && p.xid < other.xid)
}

// piece is one string of statements with what it will have done.
type piece struct {
	head      string          // progress on the target behind it, "" inside a unit
	position  change.Position // the same
	begins    bool            // opens a transaction that further pieces go on with
	ends      bool            // ends the unit
	last      bool            // nothing is to be read behind it
	changes   int             // read for it
	sent      time.Time
	shipped   int    // of them, wanted by the subscription
	own       int    // statements before those of changes
	tells     []tell // what sets sequences, behind those of changes
	tellsFrom int    // statements before those
	counts    counts
	places    []place  // of its transactions, by number
	keys      []string // row by row: the key of each change, by number
	empty     bool     // nothing to send
	rows      bool     // written row by row
	unit      *piece   // the unit's first piece
	durable   bool     // flushed on the target before it counts as applied
	script    *render.Script
	missed    []missedRow // of tables that are being copied

	command   *change.Command // all that the piece does
	commanded bool            // the unit has commands

	pass      *letter              // the unit passes its transaction and applies nothing
	overtakes map[*letterKey]place // the unit's: rows of letters that it has changed since
}

// statement describes the n-th statement of the piece, or nil if it is not one
// of a change.
func (p *piece) statement(n int) *render.Statement {
	statements := p.script.Statements()
	if n < p.own || n >= len(statements) || statements[n].Op == 0 {
		return nil
	}
	return &statements[n]
}

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
	s.changes = s.changes[:0]
	c.decoder.Recycle()
	p := &piece{rows: s.slowUntil != place{}, counts: newCounts(), unit: c.stream}
	if p.unit == nil {
		p.unit = p
	}
	limit, maxBytes := s.sub.Options.batchLimits()
	maxRows := s.sizer.next(limit)
	bytes := 0
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
			if c.stream != nil || p.pass != nil || p.changes >= maxRows || bytes >= maxBytes || len(p.places) == s.limit {
				break
			}
		}
		if chunk == nil {
			break
		}
		if c.current.xid == chunk.XID && (p.changes >= maxRows || bytes >= maxBytes) {
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
			bytes += len(chunk.Data)
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

// finish decides what position the piece leads to, and renders it.
func (c *cutter) finish(ctx context.Context, p *piece, done place, relations map[*change.Relation]bool) error {
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

func (c *cutter) render(ctx context.Context, p *piece, relations map[*change.Relation]bool, before, after string) error {
	s := c.shipper
	if names := s.catalog.unknown(relations); len(names) > 0 {
		// The link can't be asked while it is busy.
		asked := s.now()
		if err := s.settle(ctx); err != nil {
			return err
		}
		if err := s.catalog.loadRemoteTables(ctx, s.link, names); err != nil {
			return err
		}
		c.waited += s.now().Sub(asked)
	}
	if p.ends && p.unit.commanded {
		if err := s.lookAgain(ctx); err != nil {
			return err
		}
	}
	script := s.nextScript()
	p.script = script
	if before != "" {
		script.Append(before)
	}
	if p.begins || (p.ends && after == "") {
		if p.durable = p.pass != nil || s.wantDurable(); p.durable {
			s.lastDurable = s.now()
		}
		script.Append(s.advance(p.head, p.position.Flushed, p.durable))
	}
	if p.pass != nil {
		script.Append(s.passStatement(p.pass))
		if len(s.catalog.partial) > 0 {
			script.Append(s.restartCopies())
		}
	}
	// of the whole unit: to say it twice does no harm
	if len(p.unit.overtakes) > 0 {
		script.Append(s.overtakeStatement(p.unit.overtakes))
	}
	if len(p.missed) > 0 {
		script.Append(s.noteMissed(p.missed))
	}
	if sql := s.deferConstraints(p); sql != "" {
		script.Append(sql)
	}
	p.own = len(script.Statements())
	if err := c.renderChanges(p); err != nil {
		return c.settleFirst(ctx, err)
	}
	if p.ends && p.pass == nil {
		s.appendTells(p)
	}
	if after != "" {
		script.Append(after)
	}
	// in the midst of a unit, what has cancelled each other out
	p.empty = len(script.Statements()) == 0
	return nil
}

// renderChanges writes the changes that the piece has read.
func (c *cutter) renderChanges(p *piece) error {
	s, options := c.shipper, c.shipper.renderOptions()
	if p.command != nil {
		for oid := range s.catalog.partial { // it may rename what their definitions name
			p.script.Append(s.rebuildIndexes(oid))
		}
		p.script.Command(p.command, -1, 0, s.sub.Options.DDLRole == "link")
		p.unit.commanded = true
		s.catalog.forgetRemote()
		return nil
	}
	if p.rows {
		return s.renderRows(p, c.lookup, options)
	}
	segments := s.fold.Segments()
	for i := range segments {
		if err := p.script.Segment(&segments[i], c.lookup, options); err != nil {
			return unfit(p, nil, "", err)
		}
	}
	return nil
}

func (s *Shipper) renderOptions() *render.Options {
	return &render.Options{
		CheckUpdates: s.sub.Options.Policy() != render.KeepLocal,
		Policy:       s.sub.Options.Policy(),
		Subscription: s.sub.ProgressKey,
		Rank:         s.catalog.rank,
	}
}

// renderRows writes the shipper's numbered changes one by one.
func (s *Shipper) renderRows(p *piece, targets render.Targets, options *render.Options) error {
	for i := range s.changes {
		c := &s.changes[i]
		p.keys = append(p.keys, keyText(&c.change))
		if err := p.script.Change(&c.change, i, c.tx, targets, options); err != nil {
			return unfit(p, c, p.keys[i], err)
		}
	}
	return nil
}

// advance is the statement that moves the progress from where the piece before
// leads to. What is known of the source's WAL stays if flushed is zero.
func (s *Shipper) advance(to string, flushed change.WAL, durable bool) string {
	if flushed == (change.WAL{}) {
		return fmt.Sprintf("SELECT courier_target.advance(%s, %s, %s, %t)",
			literal(s.sub.ProgressKey), literal(s.head), literal(to), durable)
	}
	return fmt.Sprintf("SELECT courier_target.advance(%s, %s, %s, %t, %d, '%s')",
		literal(s.sub.ProgressKey), literal(s.head), literal(to), durable, int32(flushed.Timeline), flushed.Location)
}

// addNumbered keeps a change to be written as it is. Neighbouring truncates
// become one: tables that refer to each other are truncated together or not at
// all.
func (s *Shipper) addNumbered(c change.Change, tx int) {
	if n := len(s.changes); n > 0 && c.Op == change.Truncate {
		last := &s.changes[n-1]
		if last.tx == tx && last.change.Op == change.Truncate && last.change.Restart == c.Restart &&
			last.change.Cascade == c.Cascade && last.change.Where == "" && c.Where == "" {
			last.change.Truncated = append(last.change.Truncated, c.Truncated...)
			return
		}
	}
	s.changes = append(s.changes, numbered{c, tx})
}

// numbered is a change with the number of its transaction in the piece.
type numbered struct {
	change change.Change
	tx     int
}
