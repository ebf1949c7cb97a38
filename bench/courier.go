package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// subscriptionName is that of the pair's subscription.
func (p *pair) subscriptionName() string { return fmt.Sprintf("s%d", p.number) }

// subscribe makes a subscription of a pair's tables, disabled, that the given
// kind of driver ships. One that copies is left to be created: that is part of
// the copy.
func (p *pair) subscribe(ctx context.Context, driver string) (name string, err error) {
	name = p.subscriptionName()
	statements := []string{
		"CREATE EXTENSION IF NOT EXISTS pg_courier CASCADE",
		fmt.Sprintf("SELECT courier.set_local_node('source%d')", p.sourceNumber),
		fmt.Sprintf("SELECT courier.create_node('target%d', '%s')", p.number, p.targetFromSource().conninfo()),
	}
	for _, t := range p.tables {
		statements = append(statements, fmt.Sprintf("SELECT courier.replication_set_add_table('default', '%s')", t.name))
	}
	if !p.copies {
		statements = append(statements, p.creation(driver, false))
	}
	return name, p.source.exec(ctx, strings.Join(statements, ";\n"))
}

// creation is the statement that creates the pair's subscription.
func (p *pair) creation(driver string, enabled bool) string {
	options := fmt.Sprintf(`{"driver": "%s"`, driver)
	for option, n := range map[string]int{"batch_rows": p.batchRows, "copy_workers": p.copyOptions.workers} {
		if n > 0 {
			options += fmt.Sprintf(`, "%s": %d`, option, n)
		}
	}
	if p.copyOptions.rebuild {
		options += `, "copy_indexes": "rebuild"`
	}
	return fmt.Sprintf("SELECT courier.create_subscription('%s', 'target%d', copy_data => %t, enabled => %t, options => '%s}')",
		p.subscriptionName(), p.number, p.copies, enabled, options)
}

// worker is pg_courier with trigger capture, shipped by a background worker.
type worker struct {
	*pair
	resident
	name string
}

func newWorker(ctx context.Context, p *pair, _ *config) (shipper, error) {
	name, err := p.subscribe(ctx, "worker")
	return &worker{p, resident{}, name}, err
}

func (w *worker) start(ctx context.Context) error {
	if w.copies {
		return w.source.exec(ctx, w.creation("worker", true))
	}
	return w.source.exec(ctx, "SELECT courier.alter_subscription_enable('"+w.name+"')")
}

func (w *worker) stop(ctx context.Context) error {
	if err := w.source.exec(ctx, "SELECT courier.alter_subscription_disable('"+w.name+"')"); err != nil {
		return err
	}
	return w.source.await(ctx, `SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_courier ship worker' AND datname = current_database()`)
}

func (w *worker) fault(ctx context.Context) error { return w.stopped(ctx) }

func (w *worker) copiesDone(ctx context.Context) error { return w.pair.copiesDone(ctx, w) }

// stopped is the error for which a subscription of the source has stopped.
func (p *pair) stopped(ctx context.Context) error {
	why, err := p.source.text(ctx, `SELECT coalesce(string_agg(subscription_name || ' is ' || state || ': ' || last_error, '; '), '')
		FROM courier.subscription_status WHERE state IN ('stopped', 'needs_resync')`)
	if err == nil && why != "" {
		err = errors.New(why)
	}
	return err
}

// sidecar is pg_courier with trigger capture, shipped by `courier run`.
type sidecar struct {
	*pair
	program string
	sources []string // DSNs
	daemon  *daemon
}

func newSidecar(ctx context.Context, p *pair, c *config) (shipper, error) {
	name, err := p.subscribe(ctx, "sidecar")
	if err != nil {
		return nil, err
	}
	s := &sidecar{pair: p, program: c.courier, sources: []string{p.source.SocketDSN(p.source.database)}}
	if p.copies {
		return s, nil
	}
	return s, p.source.exec(ctx, "SELECT courier.alter_subscription_enable('"+name+"')")
}

// also lets it ship what another would.
func (s *sidecar) also(other *sidecar) {
	for _, source := range other.sources {
		if !slices.Contains(s.sources, source) {
			s.sources = append(s.sources, source)
		}
	}
}

func (s *sidecar) start(ctx context.Context) (err error) {
	if s.copies {
		if err = s.source.exec(ctx, s.creation("sidecar", true)); err != nil {
			return err
		}
	}
	args := []string{"run"}
	for _, source := range s.sources {
		args = append(args, "--database", source)
	}
	s.daemon, err = startDaemon("courier run", s.program, args...)
	return err
}

func (s *sidecar) fault(ctx context.Context) error {
	return errors.Join(s.daemon.fault(), s.stopped(ctx))
}

func (s *sidecar) copiesDone(ctx context.Context) error { return s.pair.copiesDone(ctx, s) }

func (s *sidecar) processes() []int { return pids(s.daemon) }

func (s *sidecar) stop(ctx context.Context) error {
	if err := s.daemon.end(syscall.SIGTERM); err != nil {
		return err
	}
	return s.target.await(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> '"+application+"'")
}

func (s *sidecar) close() error { return s.daemon.end(syscall.SIGKILL) }
