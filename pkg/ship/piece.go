package ship

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
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
	net       int             // rows that they come to
	bytes     int             // of the queued messages that they were in
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
	if room := s.link.Room(p.bytes); room != "" {
		script.Append(room)
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
	if p.unit == p && s.deferred != nil {
		script.Append("SET CONSTRAINTS ALL DEFERRED")
	}
	p.own = len(script.Statements())
	large, others := c.decoder.Largest()
	if len(large) >= dblink.Large {
		debug.FreeOSMemory() // what it was read from
		script.Reserve(render.Quoted(large) + 2*others + statementBytes)
	}
	if err := c.renderChanges(p); err != nil {
		return c.settleFirst(ctx, err)
	}
	if len(large) >= dblink.Large {
		c.release()
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

// statementBytes is how long statements are without values.
const statementBytes = 256 << 10

// release forgets the changes that are rendered: they are not to be in memory beside
// the statements that are made of them.
func (c *cutter) release() {
	c.shipper.fold = batch.New()
	clear(c.shipper.changes)
	c.shipper.changes = nil
	c.decoder.Release()
	debug.FreeOSMemory()
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
	switch {
	case p.rows && s.deferred != nil:
		return s.renderRuns(p, c.lookup, options)
	case p.rows:
		return s.renderRows(p, c.lookup, options)
	}
	return s.renderFolded(p, c.lookup, options)
}

// renderFolded writes the net effect of what was folded.
func (s *Shipper) renderFolded(p *piece, targets render.Targets, options *render.Options) error {
	segments := s.fold.Segments()
	for i := range segments {
		if err := p.script.Segment(&segments[i], targets, options); err != nil {
			return unfit(p, nil, "", err)
		}
	}
	return nil
}

// renderRuns writes the shipper's numbered changes in their order, neighbouring ones
// of a kind and a table as one statement.
func (s *Shipper) renderRuns(p *piece, targets render.Targets, options *render.Options) error {
	for i := range s.changes {
		c := &s.changes[i]
		if i > 0 && (c.change.Op != s.changes[i-1].change.Op || c.change.Relation != s.changes[i-1].change.Relation) {
			if err := s.renderFolded(p, targets, options); err != nil {
				return err
			}
			s.fold.Reset()
		}
		s.fold.Add(&c.change, c.tx)
	}
	return s.renderFolded(p, targets, options)
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
			last.change.Uncopied = append(last.change.Uncopied, c.Uncopied...)
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
