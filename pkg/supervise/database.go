package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// database is a source database with the loops of its subscriptions.
type database struct {
	config *Config
	name   string
	dsn    string
	log    *slog.Logger
	state  tracker
	budget budget
	fresh  bell // something was queued
	turned news // the configuration has changed
	nodes  *health.Prober
	notes  reports
	beat   atomic.Int64 // when it last showed signs of life, ns since 1970

	mu      sync.Mutex
	version string
	loops   map[string]*loop // by subscription
	// unwritten is what loops have counted and could not write down, by the number
	// of the subscription.
	unwritten map[int]*ship.Statistics
}

func newDatabase(config *Config, d Database) *database {
	log := config.Log.With("database", d.Name)
	db := &database{config: config, name: d.Name, dsn: d.DSN, log: log, loops: make(map[string]*loop),
		unwritten: make(map[int]*ship.Statistics),
		state:     tracker{log: log, name: "database"}, notes: reports{pending: make(map[string]report), due: make(chan struct{}, 1)},
		fresh: bell{asked: make(chan struct{}, 1)}}
	db.beat.Store(time.Now().UnixNano())
	db.state.current = condition{state: "connecting", since: time.Now()}
	db.nodes = health.New(health.Config{DSN: d.DSN, Interval: config.ProbeInterval, Log: log})
	return db
}

// run works for the database until ctx is over; what is in flight then ends with
// abandon at the latest.
func (d *database) run(ctx, abandon context.Context) {
	var group sync.WaitGroup
	group.Go(func() { d.nodes.Run(ctx) })
	defer group.Wait()

	wait := newBackoff()
	for ctx.Err() == nil {
		d.beat.Store(time.Now().UnixNano())
		err := d.control(ctx, abandon, wait.Reset)
		if ctx.Err() != nil {
			return
		}
		pause := wait.NextBackOff()
		state := "down"
		var unfit *unfitError
		if errors.As(err, &unfit) {
			state = unfit.state
		}
		d.state.set(slog.LevelWarn, state, err, pause)
		sleep(ctx, pause)
	}
}

// takeUnwritten hands over what earlier loops of a subscription have left.
func (d *database) takeUnwritten(id int) *ship.Statistics {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.unwritten[id]
	if s == nil {
		s = ship.NewStatistics()
	}
	delete(d.unwritten, id)
	return s
}

// leaveUnwritten keeps what a loop that ends could not write down, because the
// session to the database was lost say.
func (d *database) leaveUnwritten(id int, s *ship.Statistics) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.unwritten[id]; other != nil {
		s.Merge(other)
	}
	if !s.Written() {
		d.unwritten[id] = s
	}
}

// unfitError says that a database can be reached but not worked for.
type unfitError struct {
	state   string
	message string
	hint    string
}

func (e *unfitError) Error() string { return e.message }

// Hint says what to do.
func (e *unfitError) Hint() string { return e.hint }

// prepare sets the control session up and finds out whether the database can be
// worked for.
func (d *database) prepare(ctx context.Context, s *session.PGX) error {
	rows, err := s.Query(ctx, `SELECT pg_catalog.set_config('application_name', 'pg_courier control', false),
		(SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_courier')`)
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if rows[0][1] == nil {
		return &unfitError{"missing", "extension pg_courier is not installed in the database",
			"Run CREATE EXTENSION pg_courier CASCADE in it."}
	}
	version := string(rows[0][1])
	d.mu.Lock()
	d.version = version
	d.mu.Unlock()
	if d.config.Version != "" && release(version) != release(d.config.Version) {
		return &unfitError{"incompatible", fmt.Sprintf("the extension is version %s, this program %s", version, d.config.Version),
			"Install the same release of both, then run ALTER EXTENSION pg_courier UPDATE."}
	}
	if _, err = s.Query(ctx, "SELECT courier.require_administrator()"); err != nil {
		return err
	}
	return nil
}

// release is the part of a version that must be the same on both sides.
func release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// subscription returns the loops, in order of their names.
func (d *database) subscriptions() []*loop {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.loops), func(a, b *loop) int { return strings.Compare(a.name, b.name) })
}

func (d *database) snapshot() DatabaseState {
	c := d.state.get()
	d.mu.Lock()
	version := d.version
	d.mu.Unlock()
	state := DatabaseState{Name: d.name, State: c.state, Since: c.since, Error: c.err, SQLState: c.sqlstate,
		Hint: c.hint, Version: version, Nodes: d.nodes.All()}
	for _, l := range d.subscriptions() {
		c := l.state.get()
		state.Subscriptions = append(state.Subscriptions, SubscriptionState{Name: l.name, Node: l.nodeName(), State: c.state,
			Since: c.since, NextRetry: c.retry, Error: c.err, SQLState: c.sqlstate, Hint: c.hint})
	}
	return state
}

// report is an error to be written down.
type report struct {
	err   error
	pause time.Duration
}

// reports are errors that the control session is to write down: a loop's own
// sessions may be gone. Of each subscription, the last.
type reports struct {
	mu      sync.Mutex
	pending map[string]report
	due     chan struct{}
}

func (r *reports) put(subscription string, err error, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[subscription] = report{err, pause}
	select {
	case r.due <- struct{}{}:
	default:
	}
}

// write writes down what is pending.
func (r *reports) write(ctx context.Context, s session.Session) error {
	r.mu.Lock()
	pending := r.pending
	r.pending = make(map[string]report)
	r.mu.Unlock()
	for name, note := range pending {
		if err := ship.Report(ctx, s, name, shipperKind, note.err, note.pause); err != nil {
			return err
		}
	}
	return nil
}

// shipperKind is what subscription_status calls this program.
const shipperKind = "sidecar"
