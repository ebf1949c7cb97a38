package metrics

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

const (
	collectEvery    = 5 * time.Second // no collection begins sooner after the one before
	collectDeadline = 5 * time.Second // connecting included
	idleTimeout     = 5 * time.Minute // after which a session that nobody needs is closed
	staleAfter      = 2 * time.Minute // values older than that are not served
)

// source collects from one database.
type source struct {
	database supervise.Database
	deadline time.Duration // of a collection
	log      *slog.Logger
	now      func() time.Time

	wanted chan struct{} // of run; has room for one

	mu       sync.Mutex
	begun    time.Time     // of the last collection
	underway chan struct{} // closed at its end; nil: none has begun
	last     collection

	// run's own
	session *session.PGX
	silent  bool // the present trouble is logged already
}

// collection is what a collection brought; values are nil if it failed.
type collection struct {
	*values
	ended time.Time // zero: there was none yet
	took  time.Duration
}

func newSource(d supervise.Database, log *slog.Logger, now func() time.Time) *source {
	return &source{database: d, deadline: collectDeadline, log: log.With("database", d.Name), now: now,
		wanted: make(chan struct{}, 1)}
}

// refresh starts a collection unless the last one began a short time ago. The
// channel is closed when what current returns is no older than that.
func (s *source) refresh() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); s.underway == nil || closed(s.underway) && now.Sub(s.begun) >= collectEvery {
		s.begun, s.underway = now, make(chan struct{})
		s.wanted <- struct{}{} // none is underway, so there is room
	}
	return s.underway
}

// current returns the last collection; one whose values are old is none.
func (s *source) current() collection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.values != nil && s.now().Sub(s.last.ended) > staleAfter {
		return collection{}
	}
	return s.last
}

// run collects when wanted, until ctx is over.
func (s *source) run(ctx context.Context) {
	idle := time.NewTimer(idleTimeout)
	defer idle.Stop()
	defer s.close(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			s.close(ctx)
		case <-s.wanted:
			s.collect(ctx)
			idle.Reset(idleTimeout)
		}
	}
}

// collect asks the database and publishes what it says.
func (s *source) collect(ctx context.Context) {
	begun := s.now()
	v, err := s.ask(ctx)
	if err != nil {
		s.close(ctx)
	}
	if ctx.Err() == nil {
		s.report(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := s.now()
	s.last = collection{values: v, ended: ended, took: ended.Sub(begun)}
	close(s.underway)
}

// ask connects if need be.
func (s *source) ask(ctx context.Context) (*values, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if s.session == nil {
		var err error
		if s.session, err = connect(ctx, s.database.DSN); err != nil {
			return nil, err
		}
	}
	return query(ctx, s.session)
}

// report logs the first of a row of failures, and the end of the row.
func (s *source) report(err error) {
	switch {
	case err != nil && !s.silent:
		s.log.Warn("metrics of the database are missing", "error", err.Error(), "sqlstate", session.SQLState(err))
	case err == nil && s.silent:
		s.log.Info("metrics of the database are complete again")
	}
	s.silent = err != nil
}

func (s *source) close(ctx context.Context) {
	if s.session != nil {
		s.session.Close(ctx)
		s.session = nil
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
