package supervise

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// lookEvery is how often a database is asked for its subscriptions.
const lookEvery = 500 * time.Millisecond

// Config says what to work for.
type Config struct {
	Databases []string // connection strings
	Log       *slog.Logger
}

// Run works for the databases until ctx is over.
func Run(ctx context.Context, config Config) {
	var group sync.WaitGroup
	for i, dsn := range config.Databases {
		d := &database{dsn: dsn, log: config.Log.With("database", i+1), running: make(map[string]*loop)}
		group.Go(func() { d.run(ctx) })
	}
	group.Wait()
}

// database is one database's loops.
type database struct {
	dsn     string
	log     *slog.Logger
	running map[string]*loop // by subscription
}

// run keeps looking for subscriptions, connecting again when need be.
func (d *database) run(ctx context.Context) {
	defer d.stopAll()
	wait := newBackoff()
	for ctx.Err() == nil {
		err := d.watch(ctx, wait.Reset)
		if ctx.Err() != nil {
			return
		}
		pause := wait.NextBackOff()
		d.log.Warn("database is not available", "error", err.Error(), "retry_in", pause.Round(time.Millisecond).String())
		sleep(ctx, pause)
	}
}

// watch starts and stops loops until its session fails.
func (d *database) watch(ctx context.Context, connected func()) error {
	s, err := session.Connect(ctx, d.dsn)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	for {
		names, err := ship.Enabled(ctx, s, "sidecar")
		if err != nil {
			return err
		}
		connected()
		d.adjust(ctx, names)
		if !sleep(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

// adjust makes the running loops those of the enabled subscriptions.
func (d *database) adjust(ctx context.Context, enabled []string) {
	wanted := make(map[string]bool, len(enabled))
	for _, name := range enabled {
		wanted[name] = true
		if d.running[name] == nil {
			d.log.Info("subscription started", "subscription", name)
			d.running[name] = startLoop(ctx, d.dsn, name, d.log)
		}
	}
	for name, l := range d.running {
		if !wanted[name] {
			d.log.Info("subscription ended", "subscription", name)
			l.stop()
			delete(d.running, name)
		}
	}
}

func (d *database) stopAll() {
	for _, l := range d.running {
		l.stop()
	}
}

// newBackoff grows from 100 ms to 10 s, with jitter.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.Multiplier = 2
	b.MaxInterval = 10 * time.Second
	return b
}

// sleep waits; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
