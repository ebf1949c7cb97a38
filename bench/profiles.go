package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
)

const (
	topFunctions  = 18   // of a process, that are shown
	leastProcess  = 0.03 // of all CPU time, for a process to be shown
	profiledParts = 2    // statements and workloads, from the first on
)

// profiler is what profiles are made with.
var profiler = requirement{packages: []string{"linux-perf"}, programs: []string{"perf"}}

// measureProfiles finds where the CPU time goes in the two main scenarios: of the
// session that is captured, and of every process that ships.
func (b *bench) measureProfiles(ctx context.Context) error {
	absent, err := profiler.missing()
	if err != nil {
		return err
	}
	if len(absent) > 0 {
		b.report.leaveOut(b.now.name, absent, profiler.packages)
		return nil
	}
	for round := 1; round <= b.rounds; round++ {
		if err := b.profileCapture(ctx, round); err != nil {
			return err
		}
	}
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error { return b.profileCatchUp(ctx, s, round) })
}

// profileCapture profiles the first statements of capture, captured by pg_courier.
func (b *bench) profileCapture(ctx context.Context, round int) error {
	c := *b.config
	c.ways = slices.DeleteFunc(slices.Clone(captures), func(way *capture) bool { return way.name != ownCapture })
	alone := &bench{config: &c, report: b.report, now: b.now}
	databases, _, err := alone.startCaptures(ctx, capturedTables, func(s *server) error {
		return s.exec(ctx, createTables(capturedTables))
	})
	if err != nil {
		return err
	}
	s := databases[ownCapture]
	defer s.destroy()
	for _, statement := range captureStatements[:profiledParts] {
		p, err := startProfile(ctx, map[place][]*server{onSource: {s}}, resident{}.processes)
		if err != nil {
			return err
		}
		err = s.exec(ctx, statement.sql(b.rows))
		shares, ended := p.end()
		if err = errors.Join(err, ended); err != nil {
			return err
		}
		b.recordProfile("captured "+statement.name, round, shares)
	}
	return nil
}

// profileCatchUp profiles the first workloads of catch-up.
func (b *bench) profileCatchUp(ctx context.Context, s *system, round int) (err error) {
	pair, err := startPair(ctx, s, tablesOf(workloads), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(pair.explain(ctx, err), pair.destroy()) }()
	shipper, err := b.setUp(ctx, s, pair)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	for _, w := range workloads[:profiledParts] {
		if err := w.make(ctx, pair.source, b.rows); err != nil {
			return err
		}
		if err := pair.checkpoint(ctx); err != nil {
			return err
		}
		p, err := startProfile(ctx, map[place][]*server{onSource: {pair.source}, onTarget: {pair.target}}, shipper.processes)
		if err != nil {
			return err
		}
		err = shipper.start(ctx)
		if err == nil {
			err = pair.awaitArrival(ctx, shipper, w.arrived(b.rows))
		}
		shares, ended := p.end()
		if err = errors.Join(err, ended); err != nil {
			return err
		}
		if err := shipper.stop(ctx); err != nil {
			return err
		}
		b.recordProfile(w.title+", "+s.name, round, shares)
	}
	return nil
}

// recordProfile records the processes that count, and their largest functions.
func (b *bench) recordProfile(what string, round int, shares map[string]map[string]float64) {
	for _, process := range slices.Sorted(maps.Keys(shares)) {
		functions := shares[process]
		if functions[wholeProcess] < leastProcess {
			continue
		}
		names := slices.SortedFunc(maps.Keys(functions), func(a, b string) int {
			return cmp.Or(cmp.Compare(functions[b], functions[a]), cmp.Compare(a, b))
		})
		for _, name := range names[:min(len(names), topFunctions+1)] {
			b.record(sample{Case: what + ": " + process, System: name, Round: round, Values: map[string]float64{"share": functions[name] * 100}})
		}
	}
}
