package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// copied are the tables whose first copy is timed.
var copied = []struct {
	title string
	table *table
	rows  func(n int) int
	fill  func(rows int) string
}{
	{"rows of 70 bytes", accounts, func(n int) int { return n }, func(rows int) string { return insertAccounts("acc", 1, rows) }},
	{"rows of 2 kB", wide, func(n int) int { return n / 10 }, func(rows int) string { return insertWide("wide", "1", strconv.Itoa(rows)) }},
}

// initialCopy times how a table that has rows comes to the target.
func (b *bench) initialCopy(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		for i := range copied {
			values, err := b.copyTable(ctx, s, copied[i].table, copied[i].rows(b.rows), copied[i].fill)
			if err != nil {
				return err
			}
			b.record(sample{Case: copied[i].title, System: s.name, Round: round, Values: values})
		}
		return nil
	})
}

func (b *bench) copyTable(ctx context.Context, s *system, t *table, rows int, fill func(int) string) (values map[string]float64, err error) {
	p, err := startPair(ctx, s, []*table{t}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	p.copies = true
	if err := p.source.execAll(ctx, fill(rows), "VACUUM ANALYZE "+t.name); err != nil {
		return nil, err
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	if err := p.checkpoint(ctx); err != nil {
		return nil, err
	}
	meter, err := p.meter(ctx)
	if err != nil {
		return nil, err
	}
	defer meter.drop()
	meter.run(ctx, shipper.processes)
	started := time.Now()
	if err := shipper.start(ctx); err != nil {
		return nil, err
	}
	if err := p.awaitArrival(ctx, shipper, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s = %d)", t.name, t.key, rows)); err != nil {
		return nil, err
	}
	seconds := time.Since(started).Seconds()
	if values, err = meter.end(ctx, rows); err != nil {
		return nil, err
	}
	values["rate"], values["rows"], values["seconds"] = float64(rows)/seconds, float64(rows), seconds
	return values, p.compare(ctx, p.tables)
}
