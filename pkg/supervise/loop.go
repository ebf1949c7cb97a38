package supervise

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// loop ships one subscription. It runs while the lease is held.
type loop struct {
	database *database
	id       int
	name     string
	log      *slog.Logger
	state    tracker
	wait     *backoff.ExponentialBackOff
	counted  *ship.Statistics // by one shipper after the other; of run

	mu   sync.Mutex
	node string

	cancel context.CancelFunc // nil until started
	done   chan struct{}
	wished bool // for the lease; used by the control session only
}

func newLoop(d *database, a ship.Assignment) *loop {
	log := d.log.With("subscription", a.Name)
	return &loop{database: d, id: a.ID, name: a.Name, node: a.Node, log: log,
		state: tracker{log: log, name: "subscription"}, wait: newBackoff()}
}

// setNode notes which node the subscription goes to.
func (l *loop) setNode(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node = node
}

func (l *loop) nodeName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node
}

// start runs the loop until ctx is over; what it has in flight then may take
// until abandon, or as long as draining may.
func (l *loop) start(ctx, abandon context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	abandon, giveUp := context.WithCancel(abandon)
	context.AfterFunc(ctx, func() { time.AfterFunc(l.database.config.DrainTimeout, giveUp) })
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		defer giveUp()
		l.run(ctx, abandon)
	}()
}

// running says that the loop was started.
func (l *loop) running() bool { return l.cancel != nil }

func (l *loop) run(ctx, abandon context.Context) {
	l.counted = l.database.takeUnwritten(l.id)
	defer func() { l.database.leaveUnwritten(l.id, l.counted) }()
	for ctx.Err() == nil {
		if !l.awaitNode(ctx) {
			return
		}
		rest, err := l.session(ctx, abandon)
		switch {
		case ctx.Err() != nil || errors.Is(err, ship.ErrStopping):
			return
		case errors.Is(err, errRedefined):
			l.log.Info("node is reached in another way now, connecting again", "node", l.nodeName())
		case err != nil:
			l.fail(ctx, err)
		case rest != nil:
			select {
			case <-rest:
			case <-l.database.turned.wait():
			case <-ctx.Done():
			}
		}
	}
}

// probeGrace is how long a probe may take.
const probeGrace = 15 * time.Second

// errRedefined says that the node is to be reached in another way than it was.
var errRedefined = errors.New("the node's definition has changed")

// awaitNode waits until the node is not known to be down: one attempt an
// interval, made by whoever probes it, is enough for all its subscriptions.
func (l *loop) awaitNode(ctx context.Context) bool {
	for ctx.Err() == nil {
		node := l.nodeName()
		turned := l.database.turned.wait()
		status, changed := l.database.nodes.Status(node)
		// A probe that is long due says that probing itself is in trouble.
		if status.State != health.Down || time.Since(status.NextProbe) > probeGrace {
			return true
		}
		pause := max(time.Until(status.NextProbe), shortestRetry)
		l.interrupted(&nodeDownError{node, status}, pause)
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-turned:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return false
}

// nodeDownError says that a node is not tried because probes fail.
type nodeDownError struct {
	node   string
	status health.Status
}

func (e *nodeDownError) Error() string {
	return "node " + e.node + " is down since " + e.status.Since.UTC().Format(time.RFC3339) + ": " + e.status.Reason
}

// Hint says where to look.
func (e *nodeDownError) Hint() string {
	return "See courier.node_status; shipping goes on by itself when the node is back."
}

// SQLState is the probe's.
func (e *nodeDownError) SQLState() string { return e.status.SQLState }

// session ships in sessions of its own until an error, or until it gives them
// back: then rest is what to wait for, or nil if there is more to ship.
func (l *loop) session(ctx, abandon context.Context) (rest <-chan struct{}, err error) {
	budget := &l.database.budget
	if !budget.try() {
		if l.state.get().state == "" {
			l.state.set(slog.LevelInfo, "waiting", nil, 0)
		}
		if !budget.acquire(ctx) {
			return nil, ctx.Err()
		}
	}
	defer budget.release()
	held := 1
	if budget.tryExtra() {
		held = 2
		defer budget.releaseExtra()
	}

	sessions := make([]*session.PGX, held)
	errs := make([]error, held)
	var group sync.WaitGroup
	for i := range held {
		group.Go(func() { sessions[i], errs[i] = session.Connect(ctx, l.database.dsn) })
	}
	group.Wait()
	for _, s := range sessions {
		if s != nil {
			defer s.Close(abandon)
		}
	}
	if err = errors.Join(errs...); err != nil {
		return nil, err
	}
	config := ship.Config{Session: sessions[0], Subscription: l.name, Shipper: shipperKind, Leased: true,
		Stopping: ctx.Done(), Statistics: l.counted, Log: l.database.log, State: func(state string) { l.state.set(slog.LevelInfo, state, nil, 0) },
		Open:    func(ctx context.Context) (session.Session, func(), error) { return l.openExtra(ctx, abandon) },
		Applied: l.applied}
	if held == 2 {
		config.Reader = sessions[1]
	}
	return l.ship(ctx, abandon, sessions[0], ship.New(config))
}

// openExtra opens a session to copy tables in, if one is free that nobody needs
// as their first. It ends with abandon at the latest.
func (l *loop) openExtra(ctx, abandon context.Context) (session.Session, func(), error) {
	budget := &l.database.budget
	if !budget.tryExtra() {
		return nil, nil, nil
	}
	s, err := session.Connect(ctx, l.database.dsn)
	if err != nil {
		budget.releaseExtra()
		return nil, nil, err
	}
	return s, func() {
		s.Close(abandon)
		budget.releaseExtra()
	}, nil
}

// applied notes what has landed. One with a long backlog streams from its first
// batch on, not when it has caught up; one that copies says so until it is done.
func (l *loop) applied(a ship.Applied) {
	if a.Batches > 0 && l.state.get().state != "copying" {
		l.state.set(slog.LevelInfo, "streaming", nil, 0)
	}
	l.database.config.Observer.Applied(l.database.name, l.name, a)
}

const (
	// longestWait is how long a loop waits for changes before it looks whether
	// others wait for its sessions.
	longestWait = time.Second
	// parkAfter is when an idle loop gives its sessions back, at once if others
	// wait.
	parkAfter = 30 * time.Second
	// turn is how long a loop ships while others wait for a session.
	turn = 2 * time.Second
)

// ship ships until an error, or until it is time to give the sessions back.
func (l *loop) ship(ctx, abandon context.Context, s *session.PGX, shipper *ship.Shipper) (rest <-chan struct{}, err error) {
	pressed := l.database.budget.pressed
	began := time.Now()
	busy := began // when something was last shipped
	node, _ := l.database.nodes.Status(l.nodeName())
	for ctx.Err() == nil {
		rung := l.database.fresh.wait()
		now, _ := l.database.nodes.Status(l.nodeName())
		if node.Definition == "" {
			node = now // not read yet when the session began
		}
		if now.Definition != node.Definition {
			return nil, errRedefined
		}
		changes, err := shipper.Drain(abandon)
		if err != nil {
			return nil, err
		}
		l.wait.Reset()
		l.state.set(slog.LevelInfo, "streaming", nil, 0)
		if changes > 0 {
			busy = time.Now()
			if pressed() && time.Since(began) > turn {
				return nil, shipper.Note(abandon)
			}
		} else if pressed() || time.Since(busy) > parkAfter {
			l.database.fresh.ask()
			return rung, nil
		}
		if err = l.await(ctx, abandon, s, shipper); err != nil {
			return nil, err
		}
	}
	return nil, errors.Join(ctx.Err(), shipper.Note(abandon))
}

// await waits for changes in the shipper's session; the end of ctx cuts it short.
func (l *loop) await(ctx, abandon context.Context, s *session.PGX, shipper *ship.Shipper) error {
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		_ = s.Cancel(abandon) // if it fails, the wait ends by itself
	})
	err := shipper.Await(abandon, longestWait)
	if !stop() {
		<-cancelled
		if session.SQLState(err) == queryCanceled {
			return nil
		}
	}
	return err
}

// queryCanceled is the SQLSTATE of a statement that was cancelled.
const queryCanceled = "57014"

// fail notes an error and waits before the next try.
func (l *loop) fail(ctx context.Context, err error) {
	turned := l.database.turned.wait()
	if gone(err) { // the configuration is about to say so
		wait(ctx, turned, leaseEvery)
		return
	}
	pause := l.wait.NextBackOff()
	var stop *ship.StopError
	if errors.As(err, &stop) {
		state := "stopped"
		if stop.NeedsResync {
			state = "needs_resync"
		}
		l.state.set(slog.LevelError, state, err, pause)
		l.database.notes.put(l.name, err, pause)
	} else {
		switch {
		case ship.NodeUnreachable(err):
			l.database.nodes.Suspect(l.nodeName())
		case ship.FromNode(err):
			l.database.nodes.Report(l.nodeName(), ship.SQLState(err))
		}
		l.interrupted(err, pause)
	}
	wait(ctx, turned, pause)
}

// interrupted notes an error that passes by itself.
func (l *loop) interrupted(err error, pause time.Duration) {
	l.database.config.Observer.Retried(l.database.name, l.name)
	l.state.set(slog.LevelWarn, "retrying", err, pause)
	l.database.notes.put(l.name, err, pause)
}

// gone says that the subscription was dropped or disabled in the meantime.
func gone(err error) bool {
	var goneError *ship.GoneError
	return errors.As(err, &goneError)
}
