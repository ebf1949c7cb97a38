package main

/*
#include "courier_engine.h"

static int
host_told(CourierHost *host)
{
	return host->told();
}
*/
import "C"

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// worker ships one subscription for as long as its process lives.
type worker struct {
	session workerSession
	name    string
	log     *slog.Logger
	shipper *ship.Shipper
	wait    *backoff.ExponentialBackOff
	state   string // as last logged, with the error
}

// workers are those of this process, by their numbers.
var (
	workers    = make(map[C.int64_t]*worker)
	lastWorker C.int64_t
)

// courier_engine_open prepares to ship a subscription, whose lease the caller
// holds, and returns the number it goes by. It is 0 after a panic.
//
//export courier_engine_open
func courier_engine_open(host *C.CourierHost, subscription *C.char) (number C.int64_t) {
	defer func() {
		if recover() != nil {
			number = 0
		}
	}()
	prepareRuntime()
	w := &worker{name: C.GoString(subscription), wait: ship.NewBackoff()}
	w.log = newServerLog(host).With("subscription", w.name)
	w.session = workerSession{spi: spi{host: host}, stopping: make(chan struct{})}
	w.shipper = ship.New(ship.Config{Session: &w.session, Subscription: w.name, Shipper: "worker", Leased: true,
		Stopping: w.session.stopping, Log: newServerLog(host),
		State: func(state string) { w.enter(slog.LevelInfo, state, nil, 0) }})
	lastWorker++
	workers[lastWorker] = w
	return lastWorker
}

// courier_engine_drain ships what is queued and says when to call again at the
// latest. An error of shipping is written down and logged here, and is no
// failure of the call.
//
//export courier_engine_drain
func courier_engine_drain(number C.int64_t) (outcome C.CourierOutcome) {
	defer recoverInto(&outcome)
	w := workers[number]
	ctx := context.Background()
	beforeShip(w.name)
	w.session.look()
	changes, err := w.shipper.Drain(ctx)
	outcome.changes = C.int64_t(changes)
	var gone *ship.GoneError
	switch {
	case w.session.interrupted:
		outcome.status = C.COURIER_INTERRUPTED
	case errors.Is(err, ship.ErrStopping) || errors.As(err, &gone):
		outcome.status = C.COURIER_ENDED
	case err != nil:
		pause := w.fail(ctx, err)
		outcome.pause, outcome.failed = C.int64_t(pause.Milliseconds()), 1
		if w.session.interrupted {
			outcome.status = C.COURIER_INTERRUPTED
		}
	default:
		outcome.pause = C.int64_t(w.succeed().Milliseconds())
	}
	return outcome
}

// courier_engine_close ends the connection to the node.
//
//export courier_engine_close
func courier_engine_close(number C.int64_t) {
	defer func() {
		// What can't be closed ends with the process, which the caller is about
		// to end.
		_ = recover()
	}()
	if w := workers[number]; w != nil {
		delete(workers, number)
		// The notes are worth less than an orderly end.
		_ = w.shipper.Note(context.Background())
		w.shipper.Close(context.Background())
	}
}

// succeed returns how long to wait for news.
func (w *worker) succeed() time.Duration {
	w.wait.Reset()
	w.enter(slog.LevelInfo, "streaming", nil, 0)
	return w.shipper.Idle()
}

// fail writes an error down and returns how long to wait before the next try.
func (w *worker) fail(ctx context.Context, err error) time.Duration {
	pause := w.wait.NextBackOff()
	level, state := slog.LevelWarn, "retrying"
	var stop *ship.StopError
	if errors.As(err, &stop) {
		level, state = slog.LevelError, "stopped"
		if stop.NeedsResync {
			state = "needs_resync"
		}
	}
	w.enter(level, state, err, pause)
	if reportErr := ship.Report(ctx, &w.session, w.name, "worker", err, pause); reportErr != nil {
		w.log.Warn(reportErr.Error())
	}
	return pause
}

// enter logs a change of state; the same state with the same error is none.
func (w *worker) enter(level slog.Level, state string, err error, pause time.Duration) {
	next := state
	if err != nil {
		next += " " + err.Error()
	}
	if next == w.state {
		return
	}
	w.state = next
	var attributes []slog.Attr
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()), slog.String("sqlstate", ship.SQLState(err)),
			slog.String("hint", ship.Hint(err)), slog.String("retry_in", pause.Round(time.Millisecond).String()))
	}
	w.log.LogAttrs(context.Background(), level, "subscription is "+state, attributes...)
}

// workerSession is an spi that finds out, at each query, whether the worker was
// told to end.
type workerSession struct {
	spi
	stopping chan struct{}
	told     bool
}

// Query implements session.Session.
func (s *workerSession) Query(ctx context.Context, sql string, args ...any) ([]session.Row, error) {
	rows, err := s.spi.Query(ctx, sql, args...)
	s.look()
	return rows, err
}

func (s *workerSession) look() {
	if !s.told && C.host_told(s.host) != 0 {
		s.told = true
		close(s.stopping)
	}
}
