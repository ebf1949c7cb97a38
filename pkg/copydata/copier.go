package copydata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Config says for which subscription rows are copied, and how.
type Config struct {
	Session session.Session
	// Open opens one more session on the source, and returns what closes it; a nil
	// session if there is none to be had. Nil: there can be no other than the first.
	Open func(context.Context) (s session.Session, close func(), err error)

	Subscription int
	Key          string // of its progress
	Node, Server string
	Workers      int   // lanes
	Rate         int64 // bytes a second of rows; 0 for no limit
	Log          *slog.Logger
	Now          func() time.Time
	// Stop says that no further chunk is to be begun. It may be called by several
	// goroutines.
	Stop func() bool
}

// Copier copies chunks of a subscription's tables. It is used by one goroutine.
type Copier struct {
	config Config
	lanes  []*lane
	pace   pace
	sizes  sizes
	head   string // position on the target

	complete bool // there are no more sessions to be had

	mu      sync.Mutex
	waiting []*Job
	failed  error
}

// New returns a copier without connections.
func New(config Config) *Copier {
	return &Copier{config: config, pace: pace{rate: config.Rate, now: config.Now}, sizes: sizesFor(config.Workers, config.Rate)}
}

// Fits reports whether the copier was made for a configuration.
func (c *Copier) Fits(workers int, rate int64) bool {
	return c.config.Workers == workers && c.config.Rate == rate
}

// Connect opens the lanes that are not open yet. Called where no snapshot is held.
func (c *Copier) Connect(ctx context.Context) error {
	for number := len(c.lanes); number < c.sizes.lanes && !c.complete; number++ {
		l := &lane{copier: c, number: number, session: c.config.Session, refused: make(map[uint32]bool)}
		if c.config.Open != nil {
			own, end, err := c.config.Open(ctx)
			if err != nil {
				return fmt.Errorf("open a session to copy in: %w", err)
			}
			if own == nil && number > 0 {
				c.complete = true
				break
			}
			if own == nil {
				c.config.Open = nil
			} else {
				l.session, l.close = own, end
			}
		}
		c.lanes = append(c.lanes, l)
		var err error
		name := "pg_courier_" + strconv.Itoa(c.config.Subscription) + "_copy_" + strconv.Itoa(number)
		if l.link, err = dblink.Open(ctx, l.session, name, c.config.Node, c.config.Server); err != nil {
			return err
		}
		l.link.Log = c.config.Log
		if err = l.link.Patient(ctx, true); err != nil {
			return err
		}
		if err = l.link.Mark(ctx, c.config.Key); err != nil {
			return err
		}
	}
	return nil
}

// Shared says that lanes have sessions of their own, which a snapshot has to be
// shared with.
func (c *Copier) Shared() bool { return c.config.Open != nil }

// Close ends all connections, whatever their state.
func (c *Copier) Close(ctx context.Context) {
	for _, l := range c.lanes {
		if l.tail != nil {
			l.drop()
		}
		for _, stream := range []*dblink.Stream{l.copy, l.spare} {
			if stream == nil {
				continue
			}
			if err := stream.Close(ctx); err != nil {
				c.config.Log.Debug("close a connection that was copied over", "error", err.Error())
			}
		}
		if l.link != nil {
			// What is in flight is found out from the node.
			if err := l.link.Close(ctx); err != nil {
				c.config.Log.Debug("close a connection that was copied over", "error", err.Error())
			}
		}
		if l.close != nil {
			l.close()
		}
	}
	c.lanes = nil
}

// Epoch is the time in which one snapshot of the source is read.
type Epoch struct {
	Position string // of that snapshot, and so of the subscription on the target
	Snapshot string // its name, for sessions other than the first
	Until    time.Time
}

// Run does jobs until all are done, the epoch is over or Stop says so; jobs that
// were not begun stay in the tables. In the first session the snapshot must be
// pinned.
func (c *Copier) Run(ctx context.Context, epoch Epoch, jobs []*Job) error {
	c.waiting, c.failed, c.head = jobs, nil, epoch.Position
	for _, j := range jobs {
		j.count, j.sent = 0, 0
	}
	run := c.runAlone
	if c.config.Open != nil {
		run = c.runTogether
	}
	err := run(ctx, epoch)
	if err == nil {
		err = c.failed
	}
	return err
}

// next hands out a job, or nil.
func (c *Copier) next(epoch Epoch) *Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.failed != nil || !c.config.Now().Before(epoch.Until) || c.config.Stop() {
		return nil
	}
	j := c.waiting[0]
	c.waiting = c.waiting[1:]
	return j
}

// finish notes that a job is committed.
func (c *Copier) finish(j *Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.table.finish(j)
}

func (c *Copier) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil || errors.Is(c.failed, context.Canceled) {
		c.failed = err
	}
}

// runAlone serves the lanes in turn: while the node works for one, the session
// reads for the next. A lane whose node has enough to do is passed over, unless all
// have.
func (c *Copier) runAlone(ctx context.Context, epoch Epoch) error {
	for active, waits := true, false; active; {
		active = false
		served := false
		for _, l := range c.lanes {
			if !waits {
				full, err := l.full(ctx)
				if err != nil {
					return err
				}
				if full {
					active = true
					continue
				}
			}
			idle, err := l.advance(ctx, epoch)
			if err != nil {
				return err
			}
			if !idle {
				active, served, waits = true, true, false
			}
		}
		waits = !served
	}
	return nil
}

// runTogether gives each lane a goroutine. When one fails the others finish what
// they have begun.
func (c *Copier) runTogether(ctx context.Context, epoch Epoch) error {
	var group sync.WaitGroup
	for _, l := range c.lanes {
		group.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					c.fail(&session.Error{SQLState: "XX000", Message: fmt.Sprintf("copying rows panicked: %v", p),
						Detail: string(debug.Stack()),
						Hint:   "This is a defect of pg_courier; nothing was lost. Please report it with the detail."})
				}
			}()
			if err := l.runInSnapshot(ctx, epoch); err != nil {
				c.fail(err)
			}
		})
	}
	group.Wait()
	return nil
}

// runInSnapshot does jobs in a session of the lane's own.
func (l *lane) runInSnapshot(ctx context.Context, epoch Epoch) error {
	for _, sql := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET TRANSACTION SNAPSHOT " + literal(epoch.Snapshot)} {
		if _, err := l.session.Query(ctx, sql); err != nil {
			return fmt.Errorf("read in the snapshot of the copy: %w", err)
		}
	}
	for idle := false; !idle; {
		var err error
		if idle, err = l.advance(ctx, epoch); err != nil {
			return err
		}
	}
	if _, err := l.session.Query(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("end the snapshot of the copy: %w", err)
	}
	return nil
}

// Whole copies all rows of a table inside the transaction that is open on a link,
// in the session that the link belongs to.
func (c *Copier) Whole(ctx context.Context, s session.Session, link *dblink.Link, table *Table) error {
	l := &lane{copier: c, number: -1, session: s, link: link}
	jobs := table.Jobs(len(table.waiting))
	if len(jobs) > 1 && table.BytesTotal <= mostTogether {
		if done, err := l.together(ctx, jobs); done || err != nil {
			return err
		}
	}
	for _, j := range jobs {
		l.take(j)
		l.begun = true
		if table.Target.RowSecurity() {
			if err := link.Exec(ctx, "SET LOCAL row_security = on"); err != nil {
				return err
			}
		}
		for l.next != "" {
			if err := l.read(ctx); err != nil {
				return err
			}
			if !link.Busy() {
				continue
			}
			if err := l.await(ctx); err != nil {
				return err
			}
		}
		table.finish(j)
	}
	return nil
}
