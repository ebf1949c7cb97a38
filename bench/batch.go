package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// batchSizes are values of pg_courier's option batch_rows.
var batchSizes = []int{1, 10, 100, 1000, 10000}

// batchesShipped is about how many batches a measurement has.
const batchesShipped = 200

// sweepBatches ships single-row transactions in batches of several sizes, over the
// link with and without a delay.
func (b *bench) sweepBatches(ctx context.Context) error {
	w := workloads[2] // a batch ends with a whole transaction
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		for _, size := range batchSizes {
			for _, delay := range []time.Duration{0, linkDelay} {
				rows := min(size*batchesShipped, b.rows/5)
				values, err := b.shipInBatches(ctx, s, w, size, rows*5, delay)
				if err != nil {
					return fmt.Errorf("batches of %d rows: %w", size, err)
				}
				name := s.name + ", no delay"
				if delay > 0 {
					name = fmt.Sprintf("%s, %s", s.name, delay)
				}
				b.record(sample{Case: "batches of " + plural(size, "row"), X: float64(size), System: name, Round: round, Values: values})
			}
		}
		return nil
	})
}

func (b *bench) shipInBatches(ctx context.Context, s *system, w *workload, size, n int, delay time.Duration) (values map[string]float64, err error) {
	p, err := startPair(ctx, s, w.tables, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	p.batchRows = size
	if err := p.delay(ctx, delay); err != nil {
		return nil, err
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	return p.shipBacklog(ctx, s, shipper, w, n)
}
