package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var shippedRows = metric{key: "rate", title: "rows/s", digits: 0}

// catchUp measures every workload with every system.
func (b *bench) catchUp(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		return b.catchUpWith(ctx, s, round)
	})
}

// catchUpWith runs all workloads on a fresh pair of servers.
func (b *bench) catchUpWith(ctx context.Context, s *system, round int) (err error) {
	p, err := startPair(ctx, s, tablesOf(workloads), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	n := s.part(b.rows)
	for _, w := range workloads {
		if !s.partOf(w.name) {
			continue
		}
		values, err := p.shipBacklog(ctx, s, shipper, w, n)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.record(sample{Case: w.title, System: s.name, Round: round, Values: values})
	}
	return nil
}

// setupTimeout is how long a system has to be ready.
const setupTimeout = 2 * time.Minute

// setUp makes a system ready to ship between two servers.
func (b *bench) setUp(ctx context.Context, s *system, p *pair) (shipper, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	shipper, err := s.setup(ctx, p, b.config)
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", s.name, err)
	}
	return shipper, nil
}

// shipBacklog makes a backlog, starts the shipper, and times it until the target
// has the last row. Then it stops the shipper and compares.
func (p *pair) shipBacklog(ctx context.Context, s *system, shipper shipper, w *workload, n int) (values map[string]float64, err error) {
	meter, err := p.meter(ctx)
	if err != nil {
		return nil, err
	}
	defer meter.drop()
	if !s.synchronous {
		if err := w.make(ctx, p.source, n); err != nil {
			return nil, err
		}
	}
	if err := p.checkpoint(ctx); err != nil {
		return nil, err
	}
	meter.run(ctx, shipper.processes)
	started := time.Now()
	if err := shipper.start(ctx); err != nil {
		return nil, err
	}
	if s.synchronous {
		if err := w.make(ctx, p.source, n); err != nil {
			return nil, err
		}
	}
	if err := p.awaitArrival(ctx, shipper, w.arrived(n)); err != nil {
		return nil, err
	}
	seconds := time.Since(started).Seconds()
	rows := w.rows(n)
	if values, err = meter.end(ctx, rows); err != nil {
		return nil, err
	}
	if err := p.compare(ctx, w.tables); err != nil {
		return nil, err
	}
	values["rate"], values["rows"], values["seconds"] = float64(rows)/seconds, float64(rows), seconds
	return values, shipper.stop(ctx)
}

// part is the number of rows that the system ships of n.
func (s *system) part(n int) int { return max(int(float64(n)*s.share), batchRows) }

// faultEvery is the pause between two looks at whether a shipper still works.
const faultEvery = time.Second

// awaitArrival polls the target until a query answers true, as long as the shipper
// works.
func (p *pair) awaitArrival(ctx context.Context, shipper shipper, arrived string) error {
	look := time.Now().Add(faultEvery)
	err := poll(ctx, func() (bool, error) {
		value, err := p.target.text(ctx, "SELECT coalesce(("+arrived+"), false)::text")
		if err != nil || value == "true" {
			return true, err
		}
		if time.Now().After(look) {
			look = time.Now().Add(faultEvery)
			return false, shipper.fault(ctx)
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the last row: %w", err)
	}
	return nil
}
