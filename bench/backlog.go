package main

import (
	"context"
	"errors"
	"fmt"
)

// grown is a backlog of inserts that may have any size.
var grown = &workload{
	name: "backlog", title: fmt.Sprintf("inserts, transactions of %d", batchRows), tables: []*table{accounts},
	rows: func(n int) int { return n },
	commit: func(n int) string {
		return loop(0, (n-1)/batchRows, insertAccountsBetween("acc", fmt.Sprintf("i * %d + 1", batchRows), fmt.Sprintf("least((i + 1) * %d, %d)", batchRows, n)))
	},
	arrived: func(n int) string { return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", n) },
}

// growBacklog ships backlogs of growing size, each with a fresh pair of servers. Time
// to start is in all of them: what a further change costs is the difference of two.
func (b *bench) growBacklog(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		var seconds, further []float64
		for i, n := range b.backlogSizes {
			values, err := b.shipFresh(ctx, s, grown, n)
			if err != nil {
				return fmt.Errorf("backlog of %d: %w", n, err)
			}
			values["time"] = values["seconds"] * 1e6 / float64(n)
			seconds = append(seconds, values["seconds"])
			if i > 0 {
				further = append(further, (seconds[i]-seconds[i-1])*1e6/float64(n-b.backlogSizes[i-1]))
				values["further"] = further[i-1]
			}
			if i > 1 {
				values["flat"] = further[i-1] / further[i-2] * 100
			}
			values["cpu"] = values["source_cpu"] + values["shipper_cpu"] + values["target_cpu"]
			b.record(sample{Case: number(float64(n), 0) + " changes", X: float64(n), System: s.name, Round: round, Values: values})
		}
		return nil
	})
}

// shipFresh ships one backlog with a fresh pair of servers.
func (b *bench) shipFresh(ctx context.Context, s *system, w *workload, n int) (values map[string]float64, err error) {
	p, err := startPair(ctx, s, w.tables, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	return p.shipBacklog(ctx, s, shipper, w, n)
}
