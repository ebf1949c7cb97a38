package main

import (
	"context"
	"errors"
	"fmt"
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

// latencyRun is how long rows took from their commit to their visibility.
type latencyRun struct {
	Round    int     `json:"round"`
	System   string  `json:"system"`
	Rate     int     `json:"rate"`          // transactions a second, as asked for
	Achieved float64 `json:"achieved_rate"` // by the one session that writes
	Rows     int     `json:"rows"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	usage
}

func measureLatency(ctx context.Context, c *config) ([]latencyRun, error) {
	var runs []latencyRun
	for round := 1; round <= c.latencyRounds; round++ {
		chosen := c.chosenSystems()
		for i := range chosen {
			s := &chosen[(i+round-1)%len(chosen)]
			fresh, err := s.latency(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", s.name, err)
			}
			for _, run := range fresh {
				run.Round = round
				runs = append(runs, run)
				progress("latency: round %d of %d, %s at %d/s: p50 %.2f, p99 %.2f ms", round, c.latencyRounds,
					run.System, run.Rate, run.P50, run.P99)
			}
		}
	}
	return runs, nil
}

// latency measures all rates on a fresh pair of servers.
func (s *system) latency(ctx context.Context, c *config) (runs []latencyRun, err error) {
	p, err := startPair(ctx, s.name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\nend of the source's log:\n%s\nend of the target's log:\n%s",
				err, p.source.LogTail(2000), p.target.LogTail(2000))
		}
		err = errors.Join(err, p.destroy())
	}()
	if err := p.both(ctx, fmt.Sprintf(createTable, "acc")); err != nil {
		return nil, err
	}
	shipper, err := s.setup(ctx, p, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	if err := shipper.start(ctx); err != nil {
		return nil, err
	}
	next := 1
	for _, rate := range c.latencyRates {
		before, err := shipper.use(ctx)
		if err != nil {
			return nil, err
		}
		run, err := p.measureLatency(ctx, &next, rate, time.Duration(c.latencySeconds)*time.Second)
		if err != nil {
			return nil, err
		}
		after, err := shipper.use(ctx)
		if err != nil {
			return nil, err
		}
		run.System, run.usage = s.name, after.since(before)
		runs = append(runs, run)
	}
	if err := shipper.stop(ctx); err != nil {
		return nil, err
	}
	return runs, p.compare(ctx)
}

// committed is a row that the source has.
type committed struct {
	aid int
	at  time.Time // when the commit was acknowledged
}

// measureLatency commits a row at a time, rate of them a second, while another
// goroutine waits for each of them on a connection of its own to the target.
// next is the number of the next row.
func (p *pair) measureLatency(ctx context.Context, next *int, rate int, duration time.Duration) (latencyRun, error) {
	run := latencyRun{Rate: rate}
	rows := max(int(duration.Seconds()*float64(rate)), 1)
	target, err := pgx.Connect(ctx, p.target.SocketDSN(database)+" application_name="+application)
	if err != nil {
		return run, fmt.Errorf("connect to the target: %w", err)
	}
	defer target.Close(context.Background())

	waiting := make(chan committed, latencyWarmUp+rows) // the writer never waits for the reader
	type result struct {
		latencies []float64
		err       error
	}
	results := make(chan result, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		latencies, err := awaitRows(ctx, target, waiting)
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
		return run, err
	}
	slices.Sort(came.latencies)
	run.Rows, run.Achieved = len(came.latencies), achieved
	run.P50, run.P90, run.P99 = quantile(came.latencies, 0.5), quantile(came.latencies, 0.9), quantile(came.latencies, 0.99)
	run.Max = quantile(came.latencies, 1)
	return run, nil
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
