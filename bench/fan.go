package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// fan is several pairs that share their source or their target server.
type fan struct {
	first    *pair
	pairs    []*pair
	shippers []shipper
}

// fanSettings let one server have so many subscriptions.
func fanSettings(n int) map[string]string {
	return map[string]string{
		"max_worker_processes": strconv.Itoa(3*n + 20), "max_logical_replication_workers": strconv.Itoa(2*n + 10),
		"max_replication_slots": strconv.Itoa(2*n + 10), "max_wal_senders": strconv.Itoa(2*n + 10),
		"max_connections": strconv.Itoa(8*n + 100),
	}
}

// fanTimeout is how long all of a fan may take to be ready.
const fanTimeout = 10 * time.Minute

// startFan starts two servers and makes n pairs of them, with one database on the
// side that is shared and n on the other.
func (b *bench) startFan(ctx context.Context, s *system, n int, out bool) (f *fan, err error) {
	ctx, cancel := context.WithTimeout(ctx, fanTimeout)
	defer cancel()
	p, err := startPair(ctx, s, []*table{accounts}, fanSettings(n))
	if err != nil {
		return nil, err
	}
	f = &fan{first: p, pairs: []*pair{p}}
	defer func() {
		if err != nil {
			err = errors.Join(p.explain(ctx, err), f.destroy())
		}
	}()
	for i := 1; i < n; i++ {
		next := &pair{tables: p.tables, source: p.source, target: p.target}
		one, number := &next.target, &next.number
		if !out {
			one, number = &next.source, &next.sourceNumber
		}
		*number = i
		if *one, err = (*one).create(ctx, fmt.Sprintf("%s%d", database, i)); err != nil {
			return nil, err
		}
		f.pairs = append(f.pairs, next)
		if err := (*one).exec(ctx, createTables(next.tables)); err != nil {
			return nil, err
		}
	}
	f.shippers, err = s.setUpAll(ctx, f.pairs, b.config)
	return f, err
}

// setUpAll makes shippers of pairs. One sidecar ships for all of them.
func (s *system) setUpAll(ctx context.Context, pairs []*pair, c *config) ([]shipper, error) {
	var all []shipper
	for _, p := range pairs {
		made, err := s.setup(ctx, p, c)
		if err != nil {
			return all, err
		}
		if side, ok := made.(*sidecar); ok && len(all) > 0 {
			all[0].(*sidecar).also(side)
			continue
		}
		all = append(all, made)
	}
	return all, nil
}

func (f *fan) destroy() error {
	var errs []error
	for _, shipper := range f.shippers {
		errs = append(errs, shipper.close())
	}
	for _, p := range f.pairs[1:] {
		for _, s := range []*server{p.source, p.target} {
			if s != f.first.source && s != f.first.target {
				s.disconnect()
			}
		}
	}
	return errors.Join(append(errs, f.first.destroy())...)
}

func (f *fan) processes() []int {
	var all []int
	for _, shipper := range f.shippers {
		all = append(all, shipper.processes()...)
	}
	return all
}

// ship makes each source's backlog, starts all shippers, and times them until every
// target has the last row. rows is how many are shipped in all.
func (f *fan) ship(ctx context.Context, rows int, sources []*pair, commit func(i int) string, arrived func(p *pair) string) (values map[string]float64, err error) {
	meter, err := startMeter(ctx, map[place][]*server{onSource: f.servers(true), onTarget: f.servers(false)})
	if err != nil {
		return nil, err
	}
	defer meter.drop()
	for i, p := range sources {
		if err := p.source.execAll(ctx, "SET synchronous_commit = off", commit(i), "RESET synchronous_commit"); err != nil {
			return nil, fmt.Errorf("make the backlog: %w", err)
		}
	}
	if err := f.first.checkpoint(ctx); err != nil {
		return nil, err
	}
	meter.run(ctx, f.processes)
	started := time.Now()
	for _, shipper := range f.shippers {
		if err := shipper.start(ctx); err != nil {
			return nil, err
		}
	}
	for _, p := range f.pairs {
		if err := p.awaitArrival(ctx, f.shippers[0], arrived(p)); err != nil {
			return nil, err
		}
	}
	seconds := time.Since(started).Seconds()
	if values, err = meter.end(ctx, rows); err != nil {
		return nil, err
	}
	maps.Copy(values, map[string]float64{"rate": float64(rows) / seconds, "rows": float64(rows), "seconds": seconds,
		"ship_cpu": values["source_cpu"] + values["shipper_cpu"]})
	return values, nil
}

// servers are those of one side, each session once.
func (f *fan) servers(source bool) []*server {
	var all []*server
	for i, p := range f.pairs {
		s := p.target
		if source {
			s = p.source
		}
		if i == 0 || s != all[0] {
			all = append(all, s)
		}
	}
	return all
}

// fanOut ships one backlog to several databases.
func (b *bench) fanOut(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		first := 0.0
		for i, n := range b.fanOutTargets {
			values, err := b.fanOutTo(ctx, s, n)
			if err != nil {
				return fmt.Errorf("%d targets: %w", n, err)
			}
			if i == 0 {
				first = values["ship_cpu"]
			}
			values["of_first"] = values["ship_cpu"] / first * 100
			b.record(sample{Case: plural(n, "target"), X: float64(n), System: s.name, Round: round, Values: values})
		}
		return nil
	})
}

func (b *bench) fanOutTo(ctx context.Context, s *system, n int) (values map[string]float64, err error) {
	f, err := b.startFan(ctx, s, n, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(f.first.explain(ctx, err), f.destroy()) }()
	rows := b.rows / 5
	values, err = f.ship(ctx, rows*n, f.pairs[:1], func(int) string { return grown.commit(rows) }, func(*pair) string { return grown.arrived(rows) })
	if err != nil {
		return nil, err
	}
	for _, p := range f.pairs {
		if err := p.compare(ctx, p.tables); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// fanIn ships the backlogs of several databases into one.
func (b *bench) fanIn(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		for _, n := range b.fanInSources {
			values, err := b.fanInFrom(ctx, s, n)
			if err != nil {
				return fmt.Errorf("%d source databases: %w", n, err)
			}
			b.record(sample{Case: plural(n, "source database"), X: float64(n), System: s.name, Round: round, Values: values})
		}
		return nil
	})
}

func (b *bench) fanInFrom(ctx context.Context, s *system, n int) (values map[string]float64, err error) {
	f, err := b.startFan(ctx, s, n, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(f.first.explain(ctx, err), f.destroy()) }()
	each := max(b.rows/5/n, 1)
	last := func(i int) int { return (i + 1) * each }
	values, err = f.ship(ctx, each*n, f.pairs, func(i int) string {
		return loop(0, (each-1)/batchRows, insertAccountsBetween("acc", fmt.Sprintf("%d + i * %d", last(i-1)+1, batchRows),
			fmt.Sprintf("least(%d + (i + 1) * %d, %d)", last(i-1), batchRows, last(i))))
	}, func(p *pair) string {
		return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", last(p.sourceNumber))
	})
	if err != nil {
		return nil, err
	}
	return values, f.compareSum(ctx)
}

// compareSum is an error unless the target's table holds what those of all sources
// do together.
func (f *fan) compareSum(ctx context.Context) error {
	const sums = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM acc AS t"
	count, hash := new(big.Int), new(big.Int)
	for _, p := range f.pairs {
		text, err := p.source.text(ctx, sums)
		if err != nil {
			return err
		}
		var rows, part big.Int
		if _, err := fmt.Sscan(text, &rows, &part); err != nil {
			return fmt.Errorf("read the sums of %s: %w", p.source.database, err)
		}
		count.Add(count, &rows)
		hash.Add(hash, &part)
	}
	got, err := f.first.target.text(ctx, sums)
	if err != nil {
		return err
	}
	if want := strings.Join([]string{count.String(), hash.String()}, " "); got != want {
		return fmt.Errorf("the target differs from the sources: count and hash are %s, not %s", got, want)
	}
	return nil
}
