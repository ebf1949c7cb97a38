package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// tableMD5 is what a DBA would run on both sides to see whether a table is the
// same: MD5 of each row's text, added up. Rows may come in any order, so nothing
// is sorted, and the sum needs no memory, where string_agg(... ORDER BY key) would
// need both; so it is the cheapest of its kind. A server may run it in parallel,
// as its settings say. It tells whether there is a difference, and nothing of where.
const tableMD5 = `SELECT count(*) || ' ' || sum(('x' || substr(md5(` + wholeRow + `::text), 1, 15))::bit(60)::bigint) FROM %s AS ` + wholeRow

// comparisonPeers are ways to compare a table of two servers: the first is what
// the others are compared with.
var comparisonPeers = []comparisonPeer{
	{"md5 on both at once", (*comparison).md5Together},
	{"md5 on one, then the other", (*comparison).md5InTurn},
	{ownComparison, (*comparison).courier},
}

const ownComparison = "courier.compare"

type comparisonPeer struct {
	name string
	run  func(c *comparison, ctx context.Context) error
}

// compared are the tables, equal on both sides.
var compared = []struct {
	title string
	table *table
	rows  func(n int) int
	fill  func(rows int) string
}{
	{"rows of 70 bytes", accounts, func(n int) int { return 5 * n }, func(rows int) string { return insertAccounts("acc", 1, rows) }},
	{"twenty columns", mixed, func(n int) int { return n }, func(rows int) string { return insertMixed("1", strconv.Itoa(rows)) }},
}

// comparison is a table of a pair that is compared. Its sessions are not the
// bench's own, which a meter does not count.
type comparison struct {
	*pair
	subscription string
	table        *table
	rows         int
	here, there  *server
}

// measureComparison times ways to find out that a table is equal on both sides,
// while nobody writes to it.
func (b *bench) measureComparison(ctx context.Context) error {
	for i := range compared {
		c := &compared[i]
		if err := b.compareEqual(ctx, c.title, c.table, c.rows(b.rows), c.fill); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
	}
	return nil
}

func (b *bench) compareEqual(ctx context.Context, title string, t *table, rows int, fill func(int) string) (err error) {
	s := findSystem(ours)
	p, err := startFilled(ctx, s, t, rows, fill)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	if err := p.target.execAll(ctx, fill(rows), "VACUUM ANALYZE "+t.name); err != nil {
		return err
	}
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	c := &comparison{pair: p, subscription: p.subscriptionName(), table: t, rows: rows}
	if err := c.begin(ctx, shipper); err != nil {
		return err
	}
	defer c.end()
	// round 0 warms up
	return rounds(b, ctx, 0, b.rounds, comparisonPeers, func(p comparisonPeer) string { return p.name }, func(peer comparisonPeer, round int) error {
		values, err := c.time(ctx, peer)
		if err != nil || round == 0 {
			return err
		}
		b.record(sample{Case: title, System: peer.name, Round: round, Values: values})
		return nil
	})
}

// begin starts shipping, waits until the node is known to have everything, and
// opens the sessions.
func (c *comparison) begin(ctx context.Context, s shipper) (err error) {
	if err = s.start(ctx); err != nil {
		return err
	}
	if err = c.source.await(ctx, "SELECT courier.wait_for_subscription('"+c.subscription+"')"); err != nil {
		return err
	}
	if err = c.checkpoint(ctx); err != nil {
		return err
	}
	if c.here, err = c.source.open(ctx, c.source.database); err != nil {
		return err
	}
	if c.there, err = c.target.open(ctx, c.target.database); err != nil {
		c.here.disconnect()
	}
	return err
}

func (c *comparison) end() {
	c.here.disconnect()
	c.there.disconnect()
}

// time is the time and the CPU of one comparison.
func (c *comparison) time(ctx context.Context, peer comparisonPeer) (map[string]float64, error) {
	meter, err := c.meter(ctx)
	if err != nil {
		return nil, err
	}
	defer meter.drop()
	meter.run(ctx, func() []int { return nil })
	started := time.Now()
	if err := peer.run(c, ctx); err != nil {
		return nil, err
	}
	seconds := time.Since(started).Seconds()
	values, err := meter.end(ctx, c.rows)
	if err != nil {
		return nil, err
	}
	values["seconds"], values["cpu"] = seconds, values[string(onSource)+"_cpu"]+values[string(onTarget)+"_cpu"]
	return values, nil
}

// md5Together asks both sides at once.
func (c *comparison) md5Together(ctx context.Context) error {
	var answers [2]string
	var errs [2]error
	var group sync.WaitGroup
	for i, s := range []*server{c.here, c.there} {
		group.Go(func() { answers[i], errs[i] = s.text(ctx, fmt.Sprintf(tableMD5, c.table.name)) })
	}
	group.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	return equalAnswers(answers)
}

// md5InTurn asks one side after the other.
func (c *comparison) md5InTurn(ctx context.Context) error {
	var answers [2]string
	for i, s := range []*server{c.here, c.there} {
		var err error
		if answers[i], err = s.text(ctx, fmt.Sprintf(tableMD5, c.table.name)); err != nil {
			return err
		}
	}
	return equalAnswers(answers)
}

func equalAnswers(answers [2]string) error {
	if answers[0] != answers[1] {
		return fmt.Errorf("equal tables have different sums: %s and %s", answers[0], answers[1])
	}
	return nil
}

// courier runs courier.compare, which has to find the table equal, all rows of it.
func (c *comparison) courier(ctx context.Context) error {
	answer, err := c.here.text(ctx, fmt.Sprintf("SELECT equal || ' ' || rows_compared FROM courier.compare('%s')", c.subscription))
	if want := fmt.Sprintf("true %d", c.rows); err == nil && answer != want {
		err = fmt.Errorf("courier.compare says %q, not %q", answer, want)
	}
	return err
}
