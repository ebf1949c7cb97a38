package ship

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Config says who ships.
type Config struct {
	Session session.Session
	// Reader is a second session that the queue is read in, ahead of what is
	// rendered. Nil: the first one reads, when asked.
	Reader       session.Session
	Subscription string
	Shipper      string // sidecar, worker or session: shown in subscription_status
	// InTransaction says that the session's transaction is not ours to end, as
	// in courier.ship(): the lock goes with it, and every unit that ends a
	// drain is flushed.
	InTransaction bool
	// Leased says that the caller sees to it that nobody else ships; the
	// shipper then takes no lock.
	Leased bool
	// Stopping, when closed, makes Drain return ErrStopping as soon as the unit
	// under way is finished. It may be nil.
	Stopping <-chan struct{}
	// Statistics are those of the subscription that earlier shippers have left; nil:
	// none.
	Statistics *Statistics
	Log        *slog.Logger     // nil: no log
	Now        func() time.Time // nil: time.Now
	State      func(string)     // told when a copy begins; may be nil
	Applied    func(Applied)    // told of each unit, and of what else is counted; may be nil
	// Open opens a further session to copy tables in, and returns what closes it.
	// Nil: there can be none.
	Open func(context.Context) (session.Session, func(), error)
}

// ErrStopping says that Drain ended because it was told to.
var ErrStopping = errors.New("shipping was told to stop")

// Shipper ships one subscription. See the package's comment for its states.
type Shipper struct {
	session       session.Session
	reader        session.Session // may be nil
	name          string
	kind          string
	inTransaction bool
	stopping      <-chan struct{}
	log           *slog.Logger
	now           func() time.Time
	tellState     func(string)
	tellApplied   func(Applied)
	openSession   func(context.Context) (session.Session, func(), error)

	sub      *Subscription
	catalog  *catalog
	link     *dblink.Link // nil when detached
	locked   bool
	position *change.Position // consumed up to here; nil before the first copy
	head     string           // the target's progress, in flight included

	next opened // by Await

	fold    *batch.Fold
	scripts [2]*render.Script // one in flight, one being written
	changes []numbered        // of the piece being written, row by row
	flight  *piece
	sizer   sizer

	letters   letters
	sequences sequences
	copying   copying
	slowUntil place // transactions up to this one go row by row
	limit     int   // most transactions of the next unit, 0 for no limit
	schema    int   // metadata reloads since the last success

	// The stop that a transaction would be, which is shipped once more with its
	// constraints deferred: its net effect, or in runs of a kind and a table.
	deferred *StopError
	runs     bool

	shipped     int64
	statistics  *Statistics
	unit        counts // of pieces that the target has taken, of the unit under way
	lastDurable time.Time
	undurable   bool      // the last unit was not flushed on the target
	mark        flushMark // not known to be flushed
	marked      time.Time
	lastCheck   time.Time
	notes       notes
	tidying     tidying
}

// New returns a detached shipper.
func New(config Config) *Shipper {
	s := &Shipper{
		session: config.Session, reader: config.Reader, name: config.Subscription, kind: config.Shipper,
		inTransaction: config.InTransaction, locked: config.Leased, stopping: config.Stopping,
		log: config.Log, now: config.Now, tellState: config.State, tellApplied: config.Applied, openSession: config.Open,
		catalog: newCatalog(config.Session), fold: batch.New(), statistics: config.Statistics,
		scripts: [2]*render.Script{{}, {}}, unit: newCounts(),
	}
	if s.statistics == nil {
		s.statistics = NewStatistics()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.tellState == nil {
		s.tellState = func(string) {}
	}
	if s.tellApplied == nil {
		s.tellApplied = func(Applied) {}
	}
	return s
}

// Drain ships everything that was committed before the call, and returns the
// number of changes shipped. After an error it may be called again; it goes on
// from what the target says. A *StopError means that it will fail again until a
// person has acted.
//
// What can wait is left for a call that finds nothing to ship, so that it does
// not hold up the next change: see Idle.
func (s *Shipper) Drain(ctx context.Context) (int64, error) {
	before := s.shipped
	for attempt := 1; ; attempt++ {
		err := s.drain(ctx)
		idle := s.shipped == before || s.inTransaction
		if err == nil && idle {
			err = s.rest(ctx)
		} else if err == nil {
			err = s.watchFlush(ctx)
		}
		if err == nil {
			return s.shipped - before, s.writeDown(ctx, idle || s.now().Sub(s.notes.at) >= noteSoon, idle)
		}
		if errors.Is(err, ErrStopping) {
			return s.shipped - before, errors.Join(err, s.writeDown(ctx, true, true))
		}
		if err = s.recover(ctx, err, attempt); err != nil {
			s.detach(ctx)
			if errors.Is(err, errAside) {
				return s.shipped - before, s.writeDown(ctx, true, true)
			}
			s.keepStatistics(ctx)
			return s.shipped - before, err
		}
	}
}

func (s *Shipper) drain(ctx context.Context) error {
	if s.link == nil {
		if err := s.attach(ctx); err != nil {
			return err
		}
		if err := s.noteCopies(ctx); err != nil { // whoever copied before may not have come to it
			return err
		}
	}
	if err := s.mindLetters(ctx, s.sub.Generation); err != nil {
		return err
	}
	if s.copying.due() || s.position == nil {
		if err := s.copyPending(ctx); err != nil {
			return err
		}
		if err := s.mindLetters(ctx, s.sub.Generation); err != nil {
			return err
		}
	}
	for {
		fresh, err := s.interval(ctx)
		if err != nil || fresh {
			return err
		}
	}
}

// interval ships the rest of an interval begun earlier, or (fresh) a new one.
func (s *Shipper) interval(ctx context.Context) (fresh bool, err error) {
	if s.position.End != nil {
		return false, s.ship(ctx, queue.Resume(*s.position))
	}
	interval, generation := s.next.interval, s.next.generation
	s.next = opened{}
	if interval == nil || interval.Start.String() != s.position.Start.String() { // a copy has been made since
		if interval, generation, err = queue.Next(ctx, s.session, s.sub.ID, s.position.Start, s.sub.Generation, 0); err != nil {
			return true, err
		}
	}
	if generation != s.sub.Generation {
		if err = s.reload(ctx); err != nil {
			return true, err
		}
		if err = s.mindLetters(ctx, s.sub.Generation); err != nil {
			return true, err
		}
		if err = s.noteCopies(ctx); err != nil {
			return true, err
		}
		if s.copying.due() {
			return true, s.copyPending(ctx)
		}
	}
	if interval != nil {
		if err = s.ship(ctx, interval); err != nil {
			return true, err
		}
	}
	return true, s.requireSequences(ctx)
}

// ship ships an interval to its end. A piece is sent when the one before it has
// succeeded, and read and rendered before that.
func (s *Shipper) ship(ctx context.Context, interval *queue.Interval) error {
	if err := s.readSequences(ctx); err != nil {
		return err
	}
	cutter := s.newCutter(ctx, interval)
	defer cutter.close()
	open := false // a transaction on the target
	for {
		if s.told() && !cutter.inUnit() {
			if err := s.settle(ctx); err != nil {
				return err
			}
			return ErrStopping
		}
		if s.flight != nil && s.flight.script.Len() >= dblink.Large {
			// libpq has it twice until the node is done with it, in the engine's own
			// process where that is a backend
			if err := s.settle(ctx); err != nil {
				return err
			}
		}
		p, err := cutter.next(ctx)
		if err != nil {
			return err
		}
		if err = s.settle(ctx); err != nil {
			return err
		}
		if p == nil {
			return nil
		}
		if p.unit == p { // no transaction is open on the target
			if err = s.tidy(ctx); err != nil {
				return err
			}
		}
		if p.empty {
			s.unit.merge(&p.counts) // counts with the progress
			if p.ends {             // rows of others were passed
				s.position = &p.position
				s.notes.due, s.undurable = true, true
				if err = s.flushLater(ctx); err != nil {
					return err
				}
			}
			continue
		}
		if !open {
			if err = s.glanceAtLetters(ctx); err != nil {
				return err
			}
		}
		if p.last {
			return s.run(ctx, p)
		}
		if err = s.send(ctx, p); err != nil {
			return err
		}
		open = !p.ends
	}
}

// told says that the caller wants the shipper to stop.
func (s *Shipper) told() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// detach gives up the connection, whatever its state.
func (s *Shipper) detach(ctx context.Context) {
	if s.flight != nil { // sent, in part at least, and not heard of again
		s.inDoubt(s.flight)
	}
	s.flight, s.next, s.mark = nil, opened{}, flushMark{}
	s.unit.reset()
	s.closeCopier(ctx)
	s.copying.partial = nil
	if s.link == nil {
		return
	}
	link := s.link
	s.link = nil
	if err := link.Close(ctx); err != nil {
		s.log.Debug("close the connection", "subscription", s.name, "error", err.Error())
	}
}

// Close ends the shipper's connection to the node. The session stays open.
func (s *Shipper) Close(ctx context.Context) { s.detach(ctx) }
