package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// catchUpRun is one backlog shipped by one system.
type catchUpRun struct {
	Round    int     `json:"round"`
	System   string  `json:"system"`
	Workload string  `json:"workload"`
	Rows     int     `json:"rows"`
	Seconds  float64 `json:"seconds"`
	usage
}

// rate is in rows a second.
func (r *catchUpRun) rate() float64 { return float64(r.Rows) / r.Seconds }

func measureCatchUp(ctx context.Context, c *config) ([]catchUpRun, error) {
	chosen := c.chosenSystems()
	var runs []catchUpRun
	for round := 1; round <= c.rounds; round++ {
		for i := range chosen {
			s := &chosen[(i+round-1)%len(chosen)]
			fresh, err := s.catchUp(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", s.name, err)
			}
			for _, run := range fresh {
				run.Round = round
				runs = append(runs, run)
				progress("catch-up: round %d of %d, %s, %s: %.0f rows/s", round, c.rounds, run.System, run.Workload, run.rate())
			}
		}
	}
	return runs, nil
}

// catchUp runs all workloads on a fresh pair of servers.
func (s *system) catchUp(ctx context.Context, c *config) (runs []catchUpRun, err error) {
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
	for i := range workloads {
		run, err := workloads[i].ship(ctx, p, shipper, c.rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", workloads[i].Name, err)
		}
		run.System = s.name
		runs = append(runs, run)
	}
	return runs, nil
}

// ship makes the backlog, starts the shipper, and times it until the target
// has the last row.
func (w *workload) ship(ctx context.Context, p *pair, shipper shipper, n int) (catchUpRun, error) {
	run := catchUpRun{Workload: w.Name, Rows: w.rows(n)}
	if err := w.make(ctx, p, n); err != nil {
		return run, err
	}
	started := time.Now()
	if err := shipper.start(ctx); err != nil {
		return run, err
	}
	if err := p.target.await(ctx, w.arrived(n)); err != nil {
		return run, fmt.Errorf("wait for the last row: %w", err)
	}
	run.Seconds = time.Since(started).Seconds()
	var err error
	if run.usage, err = shipper.use(ctx); err != nil {
		return run, err
	}
	if err := shipper.stop(ctx); err != nil {
		return run, err
	}
	return run, p.compare(ctx)
}
