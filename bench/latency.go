package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// visiblePoll is the pause between two looks at the target for a row that
	// has been committed. It adds half of it, and half of a query, to every
	// measurement.
	visiblePoll = 100 * time.Microsecond
	// visibleTimeout is how long a row may take.
	visibleTimeout = 30 * time.Second
	// latencyWarmUp is how many transactions are not counted.
	latencyWarmUp = 50
)

// measureLatency measures every rate with every system.
func (b *bench) measureLatency(ctx context.Context) error {
	return b.systemRounds(ctx, b.latencyRounds, func(s *system, round int) error {
		return b.latencyWith(ctx, s, round, 0)
	})
}

// latencyWith measures all rates on a fresh pair of servers; with a delay, over a
// link.
func (b *bench) latencyWith(ctx context.Context, s *system, round int, delay time.Duration) (err error) {
	p, err := startPair(ctx, s, []*table{accounts}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	if delay > 0 {
		if err := p.delay(ctx, delay); err != nil {
			return err
		}
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	if err := shipper.start(ctx); err != nil {
		return err
	}
	next := 1
	for _, rate := range b.latencyRates {
		meter, err := p.meter(ctx)
		if err != nil {
			return err
		}
		meter.run(ctx, shipper.processes)
		values, err := p.latency(ctx, &next, rate, time.Duration(b.latencySeconds)*time.Second)
		if err != nil {
			meter.drop()
			return err
		}
		cost, err := meter.end(ctx, int(values["rows"])+latencyWarmUp)
		if err != nil {
			return err
		}
		maps.Copy(values, cost)
		b.record(sample{Case: fmt.Sprintf("%d transactions/s", rate), X: float64(rate), System: s.name, Round: round, Values: values})
	}
	if err := p.compare(ctx, p.tables); err != nil {
		return err
	}
	return shipper.stop(ctx)
}

// committed is a row that the source has.
type committed struct {
	aid int
	at  time.Time // when the commit was acknowledged
}

// latency commits a row at a time, rate of them a second, while another
// goroutine waits for each of them on a connection of its own to the target.
// next is the number of the next row.
func (p *pair) latency(ctx context.Context, next *int, rate int, duration time.Duration) (map[string]float64, error) {
	rows := max(int(duration.Seconds()*float64(rate)), 1)
	target, err := p.target.open(ctx, p.target.database)
	if err != nil {
		return nil, err
	}
	defer target.disconnect()

	waiting := make(chan committed, latencyWarmUp+rows) // the writer never waits for the reader
	type result struct {
		latencies []float64
		err       error
	}
	results := make(chan result, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		latencies, err := awaitRows(ctx, target.conn, waiting)
		if err != nil {
			cancel()
		}
		results <- result{latencies, err}
	}()
	achieved, err := p.commitRows(ctx, *next, latencyWarmUp+rows, rate, waiting)
	close(waiting)
	*next += latencyWarmUp + rows
	came := <-results
	if err := errors.Join(came.err, err); err != nil {
		return nil, err
	}
	slices.Sort(came.latencies)
	return map[string]float64{
		"rows": float64(len(came.latencies)), "achieved": achieved,
		"p50": quantile(came.latencies, 0.5), "p90": quantile(came.latencies, 0.9),
		"p99": quantile(came.latencies, 0.99), "max": quantile(came.latencies, 1),
	}, nil
}

// commitRows commits rows on schedule, and returns how many a second it made.
func (p *pair) commitRows(ctx context.Context, first, rows, rate int, waiting chan<- committed) (float64, error) {
	start := time.Now()
	for i := range rows {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if pause := time.Until(due); pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		aid := first + i
		if _, err := p.source.conn.Exec(ctx, `INSERT INTO acc VALUES ($1::int, $1::int % 100, 0, 'customer account number ' || $1::int,
			clock_timestamp(), $1::int * 1.07)`, aid); err != nil {
			return 0, fmt.Errorf("commit a row on the source: %w", err)
		}
		waiting <- committed{aid, time.Now()}
	}
	return float64(rows) / time.Since(start).Seconds(), nil
}

// awaitRows waits for rows in their order, and returns the milliseconds each took
// from its commit. Those of the warm-up are left out.
func awaitRows(ctx context.Context, target *pgx.Conn, waiting <-chan committed) ([]float64, error) {
	var latencies []float64
	n := 0
	for row := range waiting {
		deadline := time.Now().Add(visibleTimeout)
		for {
			var found bool
			if err := target.QueryRow(ctx, "SELECT EXISTS (SELECT FROM acc WHERE aid = $1)", row.aid).Scan(&found); err != nil {
				return nil, fmt.Errorf("look for a row on the target: %w", err)
			}
			now := time.Now()
			if found {
				if n++; n > latencyWarmUp {
					latencies = append(latencies, float64(now.Sub(row.at))/float64(time.Millisecond))
				}
				break
			}
			if now.After(deadline) {
				return nil, fmt.Errorf("row %d has not arrived after %s", row.aid, visibleTimeout)
			}
			nap(visiblePoll)
		}
	}
	return latencies, nil
}

// nap sleeps for less than a millisecond, which time.Sleep rounds up to one when
// the process has nothing else to do.
func nap(d time.Duration) {
	pause := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&pause, nil) // shorter, if a signal comes
}
