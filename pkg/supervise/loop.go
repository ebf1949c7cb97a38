package supervise

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// Between two looks at an empty queue.
const (
	shortestPause = 2 * time.Millisecond
	longestPause  = 200 * time.Millisecond
)

// busyPause is how often a loop that finds another shipper at work looks again.
const busyPause = 500 * time.Millisecond

// loop ships one subscription.
type loop struct {
	dsn     string
	name    string
	log     *slog.Logger
	wait    *backoff.ExponentialBackOff
	waiting string // the trouble last logged, so that it is logged once

	cancel context.CancelFunc
	done   chan struct{}
}

func startLoop(ctx context.Context, dsn, name string, log *slog.Logger) *loop {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{dsn: dsn, name: name, log: log.With("subscription", name),
		wait: newBackoff(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.run(ctx)
	}()
	return l
}

// stop ends the loop and waits for it.
func (l *loop) stop() {
	l.cancel()
	<-l.done
}

func (l *loop) run(ctx context.Context) {
	for ctx.Err() == nil {
		if pause, err := l.session(ctx); err != nil && ctx.Err() == nil {
			var stop *ship.StopError
			switch {
			case ship.Busy(err):
				l.trouble(slog.LevelInfo, "another process ships this subscription, standing by", err, pause)
			case errors.As(err, &stop):
				l.trouble(slog.LevelError, "subscription is stopped", err, pause)
			default:
				l.trouble(slog.LevelWarn, "shipping is interrupted", err, pause)
			}
			sleep(ctx, pause)
		}
	}
}

// session ships in one session until an error, and says how long to wait then.
func (l *loop) session(ctx context.Context) (time.Duration, error) {
	s, err := session.Connect(ctx, l.dsn)
	if err != nil {
		return l.wait.NextBackOff(), err
	}
	defer s.Close(ctx)
	reader, err := session.Connect(ctx, l.dsn)
	if err != nil {
		return l.wait.NextBackOff(), err
	}
	defer reader.Close(ctx)
	err = l.ship(ctx, s, reader)
	if ctx.Err() != nil {
		return 0, err
	}
	if ship.Busy(err) {
		return busyPause, err
	}
	pause := l.wait.NextBackOff()
	if !s.Closed() { // else there is no one to tell but the log
		if reportErr := ship.Report(ctx, s, l.name, "sidecar", err, pause); reportErr != nil {
			l.log.Debug("the error could not be written down", "error", reportErr.Error())
		}
	}
	return pause, err
}

// trouble logs an error once, until it passes or another comes.
func (l *loop) trouble(level slog.Level, message string, err error, pause time.Duration) {
	if l.waiting == err.Error() {
		return
	}
	l.waiting = err.Error()
	l.log.Log(context.Background(), level, message, "error", err.Error(), "sqlstate", ship.SQLState(err),
		"hint", ship.Hint(err), "retry_in", pause.Round(time.Millisecond).String())
}

// ship ships until an error. The pause between two looks at the queue doubles
// while it is empty, from 2 to 200 ms.
func (l *loop) ship(ctx context.Context, s, reader *session.PGX) error {
	shipper := ship.New(ship.Config{Session: s, Reader: reader, Subscription: l.name, Shipper: "sidecar", Log: l.log})
	pause := shortestPause
	for {
		changes, err := shipper.Drain(ctx)
		if err != nil {
			return err
		}
		l.wait.Reset()
		if l.waiting != "" {
			l.log.Info("shipping goes on")
			l.waiting = ""
		}
		if changes > 0 {
			pause = shortestPause
			continue
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}
