package ship

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Existing rows are copied in chunks (pkg/copydata), in epochs. An epoch is the
// time in which one snapshot of the source is read, a few seconds: no longer, since
// a snapshot keeps the source from being vacuumed, and since the tables that are
// copied already wait for their changes meanwhile.
//
//	pin a snapshot S; ship what is queued up to it; move the progress to S
//	begin tables: refuse, truncate or merge what the node holds, note them there
//	copy chunks of the tables that have begun, by several connections
//	count the rows of tables whose last chunk is done, on both sides; they are copied
//	give up the snapshot; note how far the copy is
//
// A table that is to be copied is, in this order,
//
//	pending   nothing of it is shipped
//	partial   some of it is copied: its changes are applied by key (copy_partial.go)
//	copied    noted in courier_target.copied; shipped like any other
//
// and what it is the target says, by its tables copying and copied. A crash costs
// the chunks in flight, no more than there are connections.
const (
	epochLength = 2 * time.Second
	// mostBegun bounds the tables that are partial at once, beyond those that have
	// more chunks than an epoch gets done.
	mostBegun = 64
	// mostJobs bounds the chunks that are handed out for an epoch.
	mostJobs = 4096
)

// copying is what a shipper knows of the copy of its subscription's tables.
type copying struct {
	copier  *copydata.Copier
	paused  bool
	names   map[uint32]string          // which copy of each table that is to have one
	policy  map[uint32]string          // on_existing
	pending map[uint32]bool            // not begun, and to be: those of catalog.pending that are not cancelled
	partial map[uint32]*copydata.Table // those of catalog.partial; nil until planned
	checked map[uint32]bool            // found fit to be copied
	// What the node lacked of them has been created.
	structured bool
	own        map[uint32]bool   // what the node holds is from an earlier copy, given up
	missed     map[uint32]bool   // courier_target.missed_row may have keys
	left       map[uint32]string // copies whose tables are not kept any more
	notes      map[uint32]copyNote
	since      time.Time // when it was begun to copy what the next notes tell of
}

// reset forgets what is read anew.
func (c *copying) reset() {
	c.paused = false
	c.names, c.policy = make(map[uint32]string), make(map[uint32]string)
	c.pending, c.own, c.missed = make(map[uint32]bool), make(map[uint32]bool), make(map[uint32]bool)
	c.partial = make(map[uint32]*copydata.Table)
	c.checked, c.structured = make(map[uint32]bool), false
	if c.notes == nil {
		c.notes, c.left = make(map[uint32]copyNote), make(map[uint32]string)
	}
}

// due says that there are tables to be copied.
func (c *copying) due() bool { return !c.paused && (len(c.pending) > 0 || len(c.partial) > 0) }

// unfinished says that the target does not yet have all that it is to have.
func (c *copying) unfinished() bool { return len(c.pending) > 0 || len(c.partial) > 0 }

// copyPending copies the tables the target has yet to get. It returns when that
// is done, paused, or the shipper is told to stop.
func (s *Shipper) copyPending(ctx context.Context) error {
	if s.inTransaction && s.copying.due() {
		if err := s.requireUnwritten(ctx); err != nil {
			return err
		}
	}
	if s.position == nil {
		if err := s.beginProgress(ctx); err != nil {
			return err
		}
	}
	if s.copying.due() {
		s.tellState("copying")
		// It waits while other connections copy, and while rows are counted here.
		if err := s.link.Patient(ctx, true); err != nil {
			return err
		}
	}
	for s.copying.due() {
		if s.told() {
			return ErrStopping
		}
		if s.structureDue() {
			if err := s.pinned(ctx, nil, func() error { return s.synchronizeStructure(ctx) }); err != nil {
				return err
			}
		}
		s.startPace()
		if err := s.copyEpoch(ctx); err != nil {
			return err
		}
		if err := s.noteCopies(ctx); err != nil {
			return err
		}
		if err := s.writeDown(ctx, false, false); err != nil {
			return err
		}
	}
	s.closeCopier(ctx)
	s.notes.due = true       // the state is another, though nothing may have moved
	s.letters.generation = 0 // retries have waited for it
	return s.link.Patient(ctx, false)
}

// beginProgress makes the target's progress begin where the subscription does.
func (s *Shipper) beginProgress(ctx context.Context) error {
	start, err := s.flushedPosition(ctx, literal(s.sub.Start))
	if err != nil {
		return fmt.Errorf("take the position of the start: %w", err)
	}
	if err = s.link.Exec(ctx, s.startProgress(start)); err != nil {
		return err
	}
	s.position, s.head = &start, start.String()
	return nil
}

// openCopier makes the connections that chunks are copied over.
func (s *Shipper) openCopier(ctx context.Context) error {
	workers, rate := s.sub.Options.copyWorkers(), s.sub.Options.copyRate()
	if s.copying.copier != nil && !s.copying.copier.Fits(workers, rate) {
		s.closeCopier(ctx)
		for oid := range s.copying.partial {
			s.copying.partial[oid] = nil // the size of a chunk follows the rate
		}
	}
	if s.copying.copier == nil {
		s.copying.copier = copydata.New(copydata.Config{Session: s.session, Open: s.openSession, Subscription: s.sub.ID,
			Key: s.sub.ProgressKey, Node: s.sub.Node, Server: s.sub.Server, Workers: workers, Rate: rate,
			Log: s.log, Now: s.now, Stop: s.told})
	}
	if err := s.copying.copier.Connect(ctx); err != nil {
		return s.explainConnect(err)
	}
	return nil
}

func (s *Shipper) closeCopier(ctx context.Context) {
	if s.copying.copier != nil {
		s.copying.copier.Close(ctx)
		s.copying.copier = nil
	}
}

// copyEpoch copies what it can in one snapshot.
func (s *Shipper) copyEpoch(ctx context.Context) error {
	// before the copier is made: a rate that was changed holds from now on
	if err := s.reconfigure(ctx); err != nil || !s.copying.due() {
		return err
	}
	if err := s.openCopier(ctx); err != nil {
		return err
	}
	if err := s.requireReadable(ctx); err != nil {
		return err
	}
	// Locked before the snapshot is taken, and so of the same content in it.
	locked := make(map[uint32]string)
	var names []string
	for _, table := range s.copyTurn() {
		locked[table.OID] = qualified(table)
		names = append(names, locked[table.OID])
	}
	return s.pinned(ctx, names, func() error {
		if s.structureDue() { // of a table added meanwhile
			return nil
		}
		var tables []*Table
		for _, table := range s.copyTurn() {
			// one added or renamed meanwhile waits for the next time
			if locked[table.OID] == qualified(table) {
				tables = append(tables, table)
			}
		}
		return s.copyPinned(ctx, tables)
	})
}

// pinned calls f with a snapshot pinned, and the configuration as of it.
func (s *Shipper) pinned(ctx context.Context, tables []string, f func() error) error {
	s.notes.paused = true
	defer func() { s.notes.paused = false }()
	return s.session.Pinned(ctx, tables, func() error {
		if err := s.reconfigure(ctx); err != nil {
			return err
		}
		return f()
	})
}

// reconfigure takes up the configuration if it has changed.
func (s *Shipper) reconfigure(ctx context.Context) error {
	generation, _, err := session.Value(ctx, s.session, "SELECT generation FROM courier.configuration")
	if err != nil {
		return fmt.Errorf("look at the configuration: %w", err)
	}
	if generation == strconv.FormatInt(s.sub.Generation, 10) {
		return nil
	}
	return s.reload(ctx)
}

// copyPinned is the part of an epoch in which the snapshot is pinned.
func (s *Shipper) copyPinned(ctx context.Context, tables []*Table) error {
	epoch := copydata.Epoch{Until: s.now().Add(epochLength)}
	end, err := s.copyPosition(ctx)
	if err != nil {
		return err
	}
	if s.copying.copier.Shared() {
		if epoch.Snapshot, err = s.session.Share(ctx); err != nil {
			return err
		}
	}
	if err = s.shipUpTo(ctx); err != nil {
		return err
	}
	if err = s.lookAtTarget(ctx, tables); err != nil {
		return err
	}
	if err = s.moveTo(ctx, end); err != nil {
		return err
	}
	epoch.Position = s.head
	// values that the rows hold, before any of them is there
	if err = s.readSequences(ctx); err != nil {
		return err
	}
	if err = s.tellNow(ctx); err != nil {
		return err
	}
	if err = s.beginTables(ctx, tables, end, epoch); err != nil {
		return err
	}
	jobs, err := s.copyJobs(ctx, tables)
	if err != nil {
		return err
	}
	err = s.copying.copier.Run(ctx, epoch, jobs)
	for oid, table := range s.copying.partial {
		if table != nil && table.Return(jobs) {
			s.copying.missed[oid] = true
		}
	}
	s.countSent()
	if err != nil {
		return s.explainCopy(ctx, err)
	}
	return s.finishTables(ctx, tables, end)
}

// lookAtTarget reads anew what an epoch's tables are on the node, and those that are
// to be checked: commands shipped just now may have changed them.
func (s *Shipper) lookAtTarget(ctx context.Context, tables []*Table) error {
	var names []tableName
	for _, table := range tables {
		names = append(names, tableName{table.Schema, table.Name})
	}
	for oid := range s.copying.pending {
		table := s.catalog.tables[oid]
		name := tableName{table.Schema, table.Name}
		if _, known := s.catalog.remote[name]; !known && !s.copying.checked[oid] {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := s.catalog.loadRemoteTables(ctx, s.link, names); err != nil {
		return err
	}
	return s.loadForeignKeys(ctx)
}

// copyPosition is the position of the pinned snapshot. What it sees is on disk
// here before the target learns of it.
func (s *Shipper) copyPosition(ctx context.Context) (change.Position, error) {
	position, err := s.flushedPosition(ctx, "courier.position()")
	if err != nil {
		return change.Position{}, fmt.Errorf("take the position of the copy: %w", err)
	}
	return position, nil
}

// shipUpTo ships the changes that the pinned snapshot sees.
func (s *Shipper) shipUpTo(ctx context.Context) error {
	if s.position.End != nil {
		if err := s.ship(ctx, queue.Resume(*s.position)); err != nil {
			return err
		}
	}
	interval, _, err := queue.Next(ctx, s.session, s.sub.ID, s.position.Start, s.sub.Generation, 0)
	if err != nil || interval == nil {
		return err
	}
	return s.ship(ctx, interval)
}

// moveTo moves the progress to the pinned snapshot, up to which all is shipped.
func (s *Shipper) moveTo(ctx context.Context, end change.Position) error {
	if s.head == end.String() {
		return nil
	}
	if err := s.link.Exec(ctx, s.advance(end.String(), end.Flushed, true)); err != nil {
		s.doubtUnit(end.String())
		return err
	}
	s.position, s.head = &end, end.String()
	s.undurable, s.lastDurable, s.lastCheck = false, s.now(), s.now()
	s.mark = flushMark{}
	s.notes.durable, s.notes.due = s.head, true
	s.countUnit()
	return nil
}

// copyJobs plans the partial tables that have no plan yet, and hands out what is
// to be copied: rows that were missed, then chunks.
func (s *Shipper) copyJobs(ctx context.Context, tables []*Table) ([]*copydata.Job, error) {
	query := chunk.Local(s.session)
	var done map[uint32][]copydata.Done
	var jobs []*copydata.Job
	for _, table := range tables {
		plan, partial := s.copying.partial[table.OID]
		if !partial {
			continue
		}
		described, byKey, err := s.describe(ctx, table)
		if err != nil {
			return nil, s.explainDrift(ctx, table, err)
		}
		if !byKey { // any more
			if err = s.restartTable(ctx, described, "a table can't be copied in chunks any more"); err != nil {
				return nil, err
			}
			continue
		}
		moved := false
		if plan != nil {
			plan.Redefine(described) // by a command between two epochs
			if moved, err = plan.Moved(ctx, query); err != nil {
				return nil, err
			}
		}
		if plan == nil || moved {
			if done == nil {
				if done, err = copydata.ReadDone(ctx, s.link.Query, s.sub.ProgressKey); err != nil {
					return nil, err
				}
			}
			plan = described
			plan.Tolerant = true
			if err = plan.Plan(ctx, query, s.copying.copier, done[table.OID]); err != nil {
				return nil, err
			}
			s.copying.partial[table.OID] = plan
			if moved {
				s.log.Info("a table was rewritten while it was copied, and is copied anew", "subscription", s.name, "table", plan.String())
			}
		}
		if s.copying.missed[table.OID] {
			rows, rekeyed, err := s.missedRows(ctx, plan)
			if err != nil {
				return nil, err
			}
			if rekeyed {
				if err = s.restartTable(ctx, plan, "a table got another key while it was copied"); err != nil {
					return nil, err
				}
				continue
			}
			jobs = append(jobs, rows...)
		}
		jobs = append(jobs, plan.Jobs(mostJobs-min(len(jobs), mostJobs))...)
	}
	return jobs, nil
}
