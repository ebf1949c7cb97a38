package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// copied are the tables whose first copy is timed.
var copied = []struct {
	title string
	table *table
	rows  func(n int) int
	fill  func(rows int) string
}{
	{"rows of 70 bytes", accounts, func(n int) int { return n }, func(rows int) string { return insertAccounts("acc", 1, rows) }},
	{"rows of 70 bytes, three further indexes", indexed, func(n int) int { return n }, func(rows int) string { return insertAccounts("indexed", 1, rows) }},
	{"rows of 2 kB", wide, func(n int) int { return n / 10 }, func(rows int) string { return insertWide("wide", "1", strconv.Itoa(rows)) }},
}

// copyLanes is how many chunks pg_courier copies at once, besides one.
const copyLanes = 4

// copyPipes are COPY TO and COPY FROM with a pipe between, the practical limit; in
// several lanes each of a part of the table, in COPY's binary format: the most that a
// machine does.
var copyPipes = []struct {
	name  string
	lanes int
}{{"psql pipe", 1}, {fmt.Sprintf("%d psql pipes, binary", copyLanes), copyLanes}}

// inLanes is what pg_courier is called that copies several chunks at once.
func inLanes(system string) string { return fmt.Sprintf("%s, %d workers", system, copyLanes) }

// rebuilding is what it is called that makes indexes anew behind the rows, too.
func rebuilding(system string) string { return inLanes(system) + ", indexes rebuilt" }

// copiesItself is a shipper that can say when a copy is done and changes are
// shipped from then on. Of others it is done when the last row has arrived.
type copiesItself interface {
	copiesDone(ctx context.Context) error
}

// copyOptions are those of a copy by pg_courier.
type copyOptions struct {
	workers int
	rebuild bool // drop the indexes, and make them again behind the rows
}

// initialCopy times how a table that has rows comes to the target.
func (b *bench) initialCopy(ctx context.Context) error {
	return b.systemRounds(ctx, b.rounds, func(s *system, round int) error {
		for i := range copied {
			c := &copied[i]
			measure := func(name string, o copyOptions) error {
				values, err := b.copyTable(ctx, s, c.table, c.rows(b.copyRows), o, c.fill)
				if err == nil {
					b.record(sample{Case: c.title, System: name, Round: round, Values: values})
				}
				return err
			}
			if err := measure(s.name, copyOptions{workers: 1}); err != nil {
				return err
			}
			if s.name == "worker" || s.name == "sidecar" {
				if err := measure(inLanes(s.name), copyOptions{workers: copyLanes}); err != nil {
					return err
				}
				if c.table.indexes != "" {
					if err := measure(rebuilding(s.name), copyOptions{workers: copyLanes, rebuild: true}); err != nil {
						return err
					}
				}
			}
			if s.name != reference {
				continue
			}
			for _, pipes := range copyPipes {
				values, err := copyThroughPipes(ctx, s, c.table, c.rows(b.copyRows), pipes.lanes, c.fill)
				if err != nil {
					return err
				}
				b.record(sample{Case: c.title, System: pipes.name, Round: round, Values: values})
			}
		}
		return nil
	})
}

// startFilled starts a pair whose source has rows.
func startFilled(ctx context.Context, s *system, t *table, rows int, fill func(int) string) (*pair, error) {
	p, err := startPair(ctx, s, []*table{t}, nil)
	if err != nil {
		return nil, err
	}
	if err := p.source.execAll(ctx, fill(rows), "VACUUM ANALYZE "+t.name); err != nil {
		return nil, errors.Join(p.explain(ctx, err), p.destroy())
	}
	return p, nil
}

func (b *bench) copyTable(ctx context.Context, s *system, t *table, rows int, o copyOptions, fill func(int) string) (values map[string]float64, err error) {
	p, err := startFilled(ctx, s, t, rows, fill)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	p.copies, p.copyOptions = true, o
	shipper, err := b.setUp(ctx, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shipper.close()) }()
	return p.timeCopy(ctx, t, rows, shipper.processes, func() error {
		if err := shipper.start(ctx); err != nil {
			return err
		}
		if c, ok := shipper.(copiesItself); ok {
			if err := c.copiesDone(ctx); err != nil {
				return err
			}
		}
		return p.awaitArrival(ctx, shipper, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s = %d)", t.name, t.key, rows))
	})
}

// timeCopy times what brings the rows to the target.
func (p *pair) timeCopy(ctx context.Context, t *table, rows int, pids func() []int, run func() error) (map[string]float64, error) {
	if err := p.checkpoint(ctx); err != nil {
		return nil, err
	}
	meter, err := p.meter(ctx)
	if err != nil {
		return nil, err
	}
	defer meter.drop()
	meter.run(ctx, pids)
	started := time.Now()
	if err := run(); err != nil {
		return nil, err
	}
	seconds := time.Since(started).Seconds()
	values, err := meter.end(ctx, rows)
	if err != nil {
		return nil, err
	}
	values["rate"], values["rows"], values["seconds"] = float64(rows)/seconds, float64(rows), seconds
	if err := p.compare(ctx, p.tables); err != nil {
		return nil, err
	}
	return values, p.compareIndexes(ctx, t)
}

// compareIndexes requires that the target has the source's indexes of a table.
func (p *pair) compareIndexes(ctx context.Context, t *table) error {
	query := fmt.Sprintf("SELECT string_agg(indexdef, '; ' ORDER BY indexdef) FROM pg_indexes WHERE tablename = '%s'", t.name)
	there, err1 := p.target.text(ctx, query)
	here, err2 := p.source.text(ctx, query)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if there != here {
		return fmt.Errorf("table %s has other indexes on the target than on the source: %s; %s", t.name, there, here)
	}
	return nil
}

// copyThroughPipes copies with two psqls a lane.
func copyThroughPipes(ctx context.Context, s *system, t *table, rows, lanes int, fill func(int) string) (values map[string]float64, err error) {
	p, err := startFilled(ctx, s, t, rows, fill)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(p.explain(ctx, err), p.destroy()) }()
	parts, format, err := p.parts(ctx, t, lanes)
	if err != nil {
		return nil, err
	}
	return p.timeCopy(ctx, t, rows, func() []int { return nil }, func() error {
		var group sync.WaitGroup
		errs := make([]error, len(parts))
		for i, part := range parts {
			group.Go(func() { errs[i] = p.pipe(ctx, "COPY "+part+" TO STDOUT"+format, "COPY "+t.name+" FROM STDIN"+format) })
		}
		group.Wait()
		return errors.Join(errs...)
	})
}

// parts are what COPY TO reads of a table, in so many lanes, and in which format.
func (p *pair) parts(ctx context.Context, t *table, lanes int) (parts []string, format string, err error) {
	if lanes == 1 {
		return []string{t.name}, "", nil
	}
	text, err := p.source.text(ctx, fmt.Sprintf("SELECT pg_relation_size('%s') / current_setting('block_size')::int + 1", t.name))
	if err != nil {
		return nil, "", err
	}
	pages, err := strconv.Atoi(text)
	if err != nil {
		return nil, "", fmt.Errorf("read the size of table %s: %w", t.name, err)
	}
	for i := range lanes {
		parts = append(parts, fmt.Sprintf("(SELECT * FROM %s WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)')", t.name, pages*i/lanes, pages*(i+1)/lanes))
	}
	return parts, " (FORMAT binary)", nil
}

// pipe runs a COPY on the source into another on the target.
func (p *pair) pipe(ctx context.Context, read, write string) error {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return err
	}
	psql := func(at address, sql string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, inst.Program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", at.conninfo(), "-c", sql)
		cmd.Stderr = os.Stderr
		return cmd
	}
	from, to := psql(p.source.near(), read), psql(p.target.near(), write)
	rows, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = rows
	if err := from.Start(); err != nil {
		return err
	}
	err = to.Run()
	return errors.Join(err, from.Wait())
}

// copiesDone waits until the tables count as copied, their rows counted, and the
// subscription is streaming.
func (p *pair) copiesDone(ctx context.Context, s shipper) error {
	look := time.Now().Add(faultEvery)
	return poll(ctx, func() (bool, error) {
		done, err := p.source.text(ctx, `SELECT (count(*) > 0 AND count(*) = count(*) FILTER (WHERE state = 'copied')
			AND (SELECT state = 'streaming' FROM courier.subscription_status))::text FROM courier.copy_status`)
		if err != nil || done == "true" {
			return true, err
		}
		if time.Now().After(look) {
			look = time.Now().Add(faultEvery)
			return false, s.fault(ctx)
		}
		return false, nil
	})
}
