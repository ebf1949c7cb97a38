package ship

import (
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Changes counts changes by kind. An upsert is an insert.
type Changes struct{ Inserted, Updated, Deleted, Truncated int64 }

func (c *Changes) add(op change.Op) {
	switch op {
	case change.Insert, change.Upsert:
		c.Inserted++
	case change.Update:
		c.Updated++
	case change.Delete:
		c.Deleted++
	case change.Truncate:
		c.Truncated++
	}
}

func (c *Changes) merge(other Changes) {
	c.Inserted += other.Inserted
	c.Updated += other.Updated
	c.Deleted += other.Deleted
	c.Truncated += other.Truncated
}

// rows leaves out truncates.
func (c *Changes) rows() int64 { return c.Inserted + c.Updated + c.Deleted }

// Conflicts counts rows of the node that were not as a change expected, by the
// names of PostgreSQL 18's pg_stat_subscription_stats.
type Conflicts struct{ InsertExists, UpdateExists, UpdateMissing, DeleteMissing int64 }

func (c *Conflicts) merge(other Conflicts) {
	c.InsertExists += other.InsertExists
	c.UpdateExists += other.UpdateExists
	c.UpdateMissing += other.UpdateMissing
	c.DeleteMissing += other.DeleteMissing
}

// unmet counts rows that a statement did not meet as it expected them.
func (c *Conflicts) unmet(op change.Op, rows int64) {
	switch op {
	case change.Insert:
		c.InsertExists += rows
	case change.Update:
		c.UpdateMissing += rows
	case change.Delete:
		c.DeleteMissing += rows
	}
}

// refused counts the conflict that a statement has failed with, if it was one.
func (c *Conflicts) refused(op change.Op, sqlstate string) {
	switch {
	case sqlstate == dblink.StateMissing:
		c.unmet(op, 1)
	case sqlstate != uniqueViolation:
	case op == change.Update:
		c.UpdateExists++
	default:
		c.InsertExists++
	}
}

const uniqueViolation = "23505"

// tableCounts is what was done for one table.
type tableCounts struct {
	captured  Changes // read from the queue
	shipped   Changes // of those, applied, as they were made: before folding
	filtered  int64   // of those, not wanted
	copied    int64   // existing rows
	sent      int64   // rows of statements, of one piece
	folded    int64   // row changes shipped that needed no row of their own
	bytes     int64   // of statements
	conflicts Conflicts
}

// countCaptured counts a change that was read; t may be nil.
func (t *tableCounts) countCaptured(op change.Op, filtered bool) {
	if t == nil {
		return
	}
	t.captured.add(op)
	if filtered {
		t.filtered++
	}
}

func (t *tableCounts) merge(other *tableCounts) {
	t.captured.merge(other.captured)
	t.shipped.merge(other.shipped)
	t.filtered += other.filtered
	t.copied += other.copied
	t.folded += other.folded
	t.bytes += other.bytes
	t.conflicts.merge(other.conflicts)
}

// counts is what was done for a subscription. The zero value has no place for
// tables: see newCounts.
type counts struct {
	tables   map[uint32]*tableCounts // by OID
	changes  int64                   // shipped, events, commands and rows copied included
	events   int64
	commands int64 // DDL
	batches  int64 // transactions on the target, without copies
	bytes    int64 // of statements sent
	read     time.Duration
	render   time.Duration
	apply    time.Duration
}

func newCounts() counts { return counts{tables: make(map[uint32]*tableCounts)} }

// of returns a table's counts, to be added to.
func (c *counts) of(oid uint32) *tableCounts {
	t := c.tables[oid]
	if t == nil {
		t = &tableCounts{}
		c.tables[oid] = t
	}
	return t
}

// merge adds what other has.
func (c *counts) merge(other *counts) {
	for oid, t := range other.tables {
		c.of(oid).merge(t)
	}
	c.changes += other.changes
	c.events += other.events
	c.commands += other.commands
	c.batches += other.batches
	c.bytes += other.bytes
	c.read += other.read
	c.render += other.render
	c.apply += other.apply
}

func (c *counts) reset() {
	clear(c.tables)
	*c = counts{tables: c.tables}
}

func (c *counts) empty() bool {
	return len(c.tables) == 0 && c.changes == 0 && c.batches == 0 && c.bytes == 0
}

// Statistics is what shippers of one subscription have counted and not yet
// written down. It is handed from one shipper to the next, so that what the first
// could not write is not lost with it; only one may use it at a time.
type Statistics struct {
	subscription int // its number
	counts       counts
	doubt        doubt
	copies       []doubtfulCopy
	refused      place // of the last transaction counted as refused
}

// doubt is a unit of which it is not known whether the target has committed it.
type doubt struct {
	head string // the progress behind it, "" if there is no such unit
	unit counts
}

// doubtfulCopy is a copy of a table of which it is not known whether the target has
// noted it as done.
type doubtfulCopy struct {
	relation uint32
	name     string
	rows     int64
}

// NewStatistics returns statistics of nothing.
func NewStatistics() *Statistics { return &Statistics{counts: newCounts()} }

// Written says that there is nothing in it.
func (s *Statistics) Written() bool {
	return s.counts.empty() && s.doubt.head == "" && len(s.copies) == 0
}

// Merge adds what another one of the same subscription has.
func (s *Statistics) Merge(other *Statistics) {
	if s.subscription == 0 { // never used
		*s = *other
		return
	}
	s.counts.merge(&other.counts)
}

// belongTo forgets all if the subscription is another than before.
func (s *Statistics) belongTo(subscription int) {
	if s.subscription != subscription {
		*s = *NewStatistics()
		s.subscription = subscription
	}
}

// count adds what the target has committed, and tells whoever wants to know.
func (s *Shipper) count(done *counts) {
	s.tellApplied(done.applied())
	s.statistics.counts.merge(done)
	s.notes.due = s.notes.due || done.changes > 0 || done.batches > 0
}

// countUnit counts the unit under way, which the target has committed.
func (s *Shipper) countUnit() {
	s.shipped += s.unit.changes
	s.count(&s.unit)
	s.unit.reset()
}

// countLanded adds to the unit's counts a piece that the target has taken.
func (s *Shipper) countLanded(p *piece, outcome *dblink.Outcome) {
	p.countStatements(outcome)
	p.counts.changes = int64(p.shipped)
	p.counts.bytes = int64(p.script.Len())
	if p.command != nil {
		p.counts.commands = 1
	}
	s.unit.merge(&p.counts)
	if p.ends {
		s.unit.batches = 1
	}
}

// countChange counts a change of a dead letter, as if it was captured just now.
func (p *piece) countChange(c *change.Change) {
	p.shipped++
	relations := c.Truncated
	switch {
	case c.Op == change.Event:
		p.counts.events++
	case c.Op != change.Truncate:
		relations = []*change.Relation{c.Relation}
	}
	for _, relation := range relations {
		t := p.counts.of(relation.OID)
		t.captured.add(c.Op)
		t.shipped.add(c.Op)
	}
}

// countLetter counts a dead letter that the target has committed, a unit of its
// own that no Drain returns.
func (s *Shipper) countLetter(p *piece, outcome *dblink.Outcome, took time.Duration) {
	p.ends = true
	s.countLanded(p, outcome)
	s.unit.apply += took
	s.count(&s.unit)
	s.unit.reset()
}

// countCopied counts the rows of a copy that the target has noted as done, and
// bytes of statements.
func (s *Shipper) countCopied(oid uint32, rows, bytes int64) {
	done := newCounts()
	*done.of(oid) = tableCounts{copied: rows, bytes: bytes}
	done.changes, done.bytes = rows, bytes
	s.shipped += rows
	s.count(&done)
}

// countSent counts the bytes of chunks.
func (s *Shipper) countSent() {
	for oid, table := range s.copying.partial {
		if table == nil {
			continue
		}
		if sent := table.TakeSent(); sent > 0 {
			s.countCopied(oid, 0, sent)
		}
	}
}

// countStatements takes from a piece's statements, and from what the target says
// of them, what its changes alone don't tell.
func (p *piece) countStatements(outcome *dblink.Outcome) {
	statements := p.script.Statements()
	var last *tableCounts
	var relation *change.Relation
	for i := range statements {
		st := &statements[i]
		if st.Relation == nil || i < p.own {
			continue
		}
		if st.Relation != relation {
			relation, last = st.Relation, p.counts.of(st.Relation.OID)
		}
		last.bytes += int64(p.script.Size(i))
		if st.Op == change.Truncate {
			continue
		}
		last.sent += int64(st.Rows)
		if st.Expected > 0 && i < len(outcome.Counts) {
			last.conflicts.unmet(st.Op, max(int64(st.Expected)-outcome.Counts[i], 0))
		}
	}
	for _, t := range p.counts.tables {
		// one change may need two rows: an upsert that moves one
		t.folded = max(t.shipped.rows()-t.sent, 0)
	}
}

// countRefused counts a conflict that stops a transaction or sets it aside; one
// that is tried again and again counts once.
func (s *Shipper) countRefused(f *failure, stop *StopError) {
	at := place{stop.K, stop.XID}
	statement := f.piece.statement(f.completed)
	if statement == nil || statement.Relation == nil || s.statistics.refused == at {
		return
	}
	done := newCounts()
	done.of(statement.Relation.OID).conflicts.refused(statement.Op, session.SQLState(f.err))
	if done.tables[statement.Relation.OID].conflicts == (Conflicts{}) {
		return
	}
	s.statistics.refused = at
	s.count(&done)
}

// inDoubt notes that it is not known whether the target has committed the unit
// that ends with the piece.
func (s *Shipper) inDoubt(p *piece) {
	if p.ends {
		s.countLanded(p, &dblink.Outcome{})
		s.doubtUnit(p.head)
	}
}

// doubtUnit keeps the counts of the unit under way until it is known whether the
// target is at the progress behind it.
func (s *Shipper) doubtUnit(head string) {
	s.statistics.doubt = doubt{head: head, unit: s.unit}
	s.unit = newCounts()
}

// doubtCopies keeps what was copied until it is known whether the target has noted
// the tables as copied.
func (s *Shipper) doubtCopies(tables []*copydata.Table) {
	for _, table := range tables {
		s.statistics.copies = append(s.statistics.copies, doubtfulCopy{table.OID, s.copying.names[table.OID], table.RowsDone})
	}
}

// settleCopies counts those in doubt that the target names as copied.
func (s *Shipper) settleCopies(copied map[uint32]string) {
	for _, d := range s.statistics.copies {
		if copied[d.relation] == d.name {
			s.countCopied(d.relation, d.rows, 0)
		}
	}
	s.statistics.copies = nil
}

// settleDoubt counts the unit in doubt, if the target's progress says that it was
// committed.
func (s *Shipper) settleDoubt() {
	d := s.statistics.doubt
	s.statistics.doubt = doubt{}
	if d.head != "" && d.head == s.head {
		s.shipped += d.unit.changes
		s.count(&d.unit)
	}
}
