package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	sustainedFirst    = 500     // transactions a second, at first
	sustainedMost     = 128_000 // no session gets there
	sustainedHalvings = 3
	sustainedSessions = 8
	lagLimit          = time.Second
	lagEvery          = 50 * time.Millisecond
	reachedPart       = 0.95 // of a rate that counts as reached
)

// sustained looks for the highest rate of single-row transactions that a system
// keeps up with.
func (b *bench) sustained(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		values, err := b.sustainedBy(ctx, s)
		if err != nil {
			return err
		}
		b.record(sample{Case: "transactions of one row", System: s.name, Round: round, Values: values})
		return nil
	})
}

func (b *bench) sustainedBy(ctx context.Context, s *system) (values map[string]float64, err error) {
	p, err := startPair(ctx, s, []*table{accounts}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	if err := p.source.exec(ctx, "CREATE SEQUENCE acc_aid CACHE 100"); err != nil {
		return nil, err
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	if err := shipper.start(ctx); err != nil {
		return nil, err
	}
	values, err = p.search(ctx, shipper, b.sustainedSeconds)
	if err != nil {
		return nil, err
	}
	if err := p.compare(ctx, p.tables); err != nil {
		return nil, err
	}
	return values, shipper.stop(ctx)
}

// step is what came of a rate.
type step struct {
	asked, reached float64 // transactions a second
	lag            time.Duration
}

func (s step) kept() bool { return s.lag < lagLimit }

// search doubles the rate until it is not kept or not reached, and then halves
// the interval.
func (p *pair) search(ctx context.Context, shipper shipper, seconds int) (map[string]float64, error) {
	var best step
	failed := 0.0
	try := func(rate float64) (more bool, err error) {
		s, err := p.try(ctx, shipper, rate, seconds)
		if err != nil {
			return false, err
		}
		if !s.kept() {
			failed = rate
			return false, nil
		}
		best = s
		return s.reached >= reachedPart*rate, nil
	}
	for rate := float64(sustainedFirst); rate <= sustainedMost; rate *= 2 {
		more, err := try(rate)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	for range sustainedHalvings {
		if failed == 0 {
			break
		}
		if _, err := try((best.reached + failed) / 2); err != nil {
			return nil, err
		}
	}
	values := map[string]float64{"rate": best.reached, "lag": float64(best.lag) / float64(time.Millisecond), "capped": 0}
	if failed == 0 {
		values["capped"] = 1
	}
	return values, nil
}

// sustainedScript is what each session commits.
const sustainedScript = `INSERT INTO acc VALUES (nextval('acc_aid'), 1, 0, 'customer account number', clock_timestamp(), 1.07);
`

// try commits at a rate, and looks how far the target is behind in the second half
// of the time. It returns when the target has everything.
func (p *pair) try(ctx context.Context, shipper shipper, rate float64, seconds int) (step, error) {
	s := step{asked: rate}
	script := filepath.Join(p.source.Dir, "sustained.sql")
	if err := os.WriteFile(script, []byte(sustainedScript), 0o644); err != nil {
		return s, fmt.Errorf("write the script: %w", err)
	}
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		out, err := p.source.pgbenchWith(watching, []string{"PGOPTIONS=-c synchronous_commit=off"}, "-n", "-M", "prepared", "-f", script, "-R", strconv.Itoa(int(rate)),
			"-c", strconv.Itoa(sustainedSessions), "-j", "2", "-T", strconv.Itoa(seconds))
		done <- result{out, err}
	}()
	began := time.Now()
	ticker := time.NewTicker(lagEvery)
	defer ticker.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				return s, r.err
			}
			figures, err := pgbenchFigures(r.out)
			if err != nil {
				return s, err
			}
			s.reached = figures["rate"]
			return s, p.awaitAll(ctx, shipper)
		case <-ticker.C:
			lag, err := p.lag(ctx)
			if err != nil {
				return s, err
			}
			if elapsed := time.Since(began); elapsed > time.Duration(seconds)*time.Second/2 && elapsed < time.Duration(seconds)*time.Second {
				s.lag = max(s.lag, lag)
			}
		}
	}
}

// lag is how old the youngest row of the target is.
func (p *pair) lag(ctx context.Context) (time.Duration, error) {
	text, err := p.target.text(ctx, "SELECT coalesce(extract(epoch FROM clock_timestamp() - (SELECT ts FROM acc ORDER BY aid DESC LIMIT 1)), 0)::text")
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("read the lag: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// awaitAll waits until the target has as many rows as the source.
func (p *pair) awaitAll(ctx context.Context, shipper shipper) error {
	rows, err := p.source.text(ctx, "SELECT count(*)::text FROM acc")
	if err != nil {
		return err
	}
	last, err := p.source.text(ctx, "SELECT max(aid)::text FROM acc")
	if err != nil {
		return err
	}
	return p.awaitArrival(ctx, shipper, fmt.Sprintf(
		"SELECT CASE WHEN EXISTS (SELECT FROM acc WHERE aid = %s) THEN (SELECT count(*) FROM acc) = %s END", last, rows))
}
