package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// linkDelay is how much longer a round trip between the servers takes.
const linkDelay = 50 * time.Millisecond

// linkWorkloads are the backlogs that are shipped over the link: the first ones,
// which build on one another.
var linkWorkloads = workloads[:3]

// linkCatchUp ships backlogs over the same link without and with a delay.
func (b *bench) linkCatchUp(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		near := make(map[string]float64)
		if err := b.overLink(ctx, s, 0, func(w *workload, values map[string]float64) {
			near[w.name] = values["rate"]
			b.record(sample{Case: w.title + "; no delay", System: s.name, Round: round, Values: values})
		}); err != nil {
			return err
		}
		return b.overLink(ctx, s, linkDelay, func(w *workload, values map[string]float64) {
			values["kept"] = values["rate"] / near[w.name] * 100
			b.record(sample{Case: delayed(w), System: s.name, Round: round, Values: values})
		})
	})
}

// delayed is the case of a backlog over the link with a delay.
func delayed(w *workload) string { return fmt.Sprintf("%s; round trips of %s", w.title, linkDelay) }

// overLink ships the backlogs over a link.
func (b *bench) overLink(ctx context.Context, s *system, delay time.Duration, record func(*workload, map[string]float64)) (err error) {
	p, err := startPair(ctx, s, tablesOf(linkWorkloads), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	if err := p.delay(ctx, delay); err != nil {
		return err
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	for _, w := range linkWorkloads {
		values, err := p.shipBacklog(ctx, s, shipper, w, s.part(b.rows))
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		record(w, values)
	}
	return nil
}

// linkLatency is latency over the link with a delay.
func (b *bench) linkLatency(ctx context.Context) error {
	return b.systemRounds(ctx, b.latencyRounds, func(s *system, round int) error {
		return b.latencyWith(ctx, s, round, linkDelay)
	})
}
