package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
)

const (
	// durableEvery is how often it is made sure that what the target has applied
	// is on its disk; units run with synchronous_commit off. In idle time it is
	// flushed. When changes flow, the next one would have to wait for that: then
	// the shipper looks how far the target has come by itself, which is a second
	// at most, and flushes a unit only if nothing has come of that for so long.
	durableEvery  = time.Second
	durableLatest = 5 * durableEvery
	// checkEvery is how often an idle shipper looks at the target's progress.
	checkEvery = 5 * time.Second
	// idleAfter is after how long without news a shipper counts as idle.
	idleAfter = 20 * time.Millisecond
)

// Idle is how long after a Drain another is due though there is no news: it
// writes down what was left, and looks after the target.
func (s *Shipper) Idle() time.Duration {
	due := s.lastCheck.Add(checkEvery)
	if flush := s.lastDurable.Add(durableEvery); s.undurable && flush.Before(due) {
		due = flush
	}
	soonest := s.lastCheck.Add(idleAfter)
	if ((s.notes.due || !s.statistics.counts.empty()) && !s.notes.paused) || due.Before(soonest) {
		due = soonest
	}
	return max(due.Sub(s.now()), time.Millisecond)
}

// flushMark is a position with a place in the target's WAL behind it.
type flushMark struct {
	head string
	wal  change.LSN
}

// watchFlush finds out whether what was applied at the last call, or before, has
// reached the target's disk, and sets the next mark.
func (s *Shipper) watchFlush(ctx context.Context) error {
	if s.inTransaction || !s.undurable || s.now().Sub(s.marked) < durableEvery {
		return nil
	}
	s.marked = s.now()
	rows, err := s.link.Query(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_flush_lsn()", 2)
	if err != nil {
		return err
	}
	end, err1 := change.ParseLSN(string(rows[0][0]))
	flushed, err2 := change.ParseLSN(string(rows[0][1]))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("read how far node %s has flushed its WAL: %w", s.sub.Node, err)
	}
	if s.mark.head != "" && s.mark.wal <= flushed {
		s.notes.durable, s.notes.due = s.mark.head, true
		s.lastDurable = s.now()
	}
	if s.mark.head == "" || s.mark.wal <= flushed {
		s.mark = flushMark{s.head, end}
	}
	return nil
}

// opened is an interval that a Drain is to begin with.
type opened struct {
	interval   *queue.Interval
	generation int64
}

// Await waits, in the session, until there is something for Drain to ship or to
// look after, but no longer than limit, nor than Idle says. It is the session's
// server that waits, so nothing is committed unnoticed.
func (s *Shipper) Await(ctx context.Context, limit time.Duration) error {
	if s.link == nil || s.position == nil || s.position.End != nil {
		return nil // Drain knows what to do
	}
	interval, generation, err := queue.Next(ctx, s.session, s.sub.ID, s.position.Start, s.sub.Generation, min(limit, s.Idle()))
	if err == nil && interval != nil {
		s.next = opened{interval, generation}
	}
	return err
}

// rest is what there is to do when nothing is queued: to have the last units
// flushed on the target, which may stay unflushed for as long as no other
// follows, and to see whether the target is still where it was. It may have been
// restarted, and have lost units that were not flushed, or restored. And
// sequences may have been used for something that is not shipped.
func (s *Shipper) rest(ctx context.Context) error {
	if err := s.tellIdle(ctx); err != nil {
		return err
	}
	if s.inTransaction {
		if s.head == s.position.String() {
			return nil
		}
		return s.flush(ctx)
	}
	if err := s.tidy(ctx); err != nil {
		return err
	}
	if err := s.flushLater(ctx); err != nil {
		return err
	}
	now := s.now()
	if now.Sub(s.lastCheck) < checkEvery {
		return nil
	}
	rows, err := s.link.Query(ctx, "SELECT position FROM courier_target.progress WHERE subscription = "+
		literal(s.sub.ProgressKey), 1)
	if err != nil {
		return err
	}
	if len(rows) == 0 || string(rows[0][0]) != s.head {
		return errMoved
	}
	s.lastCheck = now
	return nil
}

// errMoved says that the target's progress is not where this shipper left it.
var errMoved = errors.New("the node's progress has changed")

// wantDurable says whether the unit being rendered is to be flushed.
func (s *Shipper) wantDurable() bool {
	return s.inTransaction || s.now().Sub(s.lastDurable) >= durableLatest
}

// Note writes down what a Drain may have left: to be called when no other
// follows.
func (s *Shipper) Note(ctx context.Context) error {
	if s.link == nil {
		return nil
	}
	return s.writeDown(ctx, true, true)
}
