package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// pglogical is the extension of that name.
type pglogical struct {
	*pair
	resident
	name string
}

var pglogicalNeeds = requirement{
	packages:   []string{"postgresql-MAJOR-pglogical"},
	extensions: []string{"pglogical"},
	libraries:  []string{"pglogical.so", "pglogical_output.so"},
}

var pglogicalSettings = map[string]string{
	"wal_retrieve_retry_interval": "100ms", // else a worker starts 5 s after the last
	"max_worker_processes":        "32",
	pluginList:                    "pgoutput, pglogical_output",
}

// pluginList is a setting that servers have from the minor versions of 2026 on:
// only plugins that it names may be used for logical decoding.
const pluginList = "output_plugin_libraries"

func newPglogical(ctx context.Context, p *pair, _ *config) (shipper, error) {
	l := &pglogical{p, resident{}, fmt.Sprintf("s%d", p.number)}
	var add []string
	for _, t := range p.tables {
		add = append(add, fmt.Sprintf("SELECT pglogical.replication_set_add_table('default', '%s')", t.name))
	}
	statements := []string{
		"CREATE EXTENSION IF NOT EXISTS pglogical",
		fmt.Sprintf("SELECT pglogical.create_node('source', '%s')", p.sourceFromTarget().conninfo()),
		strings.Join(add, ";"),
	}
	if p.number > 0 { // the source is there
		statements = nil
	}
	if err := p.source.execAll(ctx, statements...); err != nil {
		return nil, err
	}
	if err := p.target.execAll(ctx,
		"CREATE EXTENSION pglogical",
		fmt.Sprintf("SELECT pglogical.create_node('%s', '%s')", l.name, p.target.near().conninfo())); err != nil {
		return nil, err
	}
	if p.copies { // it has no way to be made and not started
		return l, nil
	}
	if err := l.subscribe(ctx); err != nil {
		return nil, err
	}
	if err := l.awaitStatus(ctx, "replicating"); err != nil {
		return nil, err
	}
	return l, l.stop(ctx)
}

func (l *pglogical) subscribe(ctx context.Context) error {
	return l.target.exec(ctx, fmt.Sprintf(`SELECT pglogical.create_subscription('%s', '%s',
		synchronize_structure := false, synchronize_data := %t, forward_origins := '{}')`,
		l.name, l.sourceFromTarget().conninfo(), l.copies))
}

func (l *pglogical) awaitStatus(ctx context.Context, status string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.target.await(ctx, fmt.Sprintf(
		"SELECT status = '%s' FROM pglogical.show_subscription_status('%s')", status, l.name)); err != nil {
		return fmt.Errorf("wait for the subscription to be %s: %w", status, err)
	}
	return nil
}

func (l *pglogical) start(ctx context.Context) error {
	if l.copies {
		return l.subscribe(ctx)
	}
	return l.target.exec(ctx, fmt.Sprintf("SELECT pglogical.alter_subscription_enable('%s', immediate := true)", l.name))
}

func (l *pglogical) stop(ctx context.Context) error {
	if err := l.target.exec(ctx, fmt.Sprintf("SELECT pglogical.alter_subscription_disable('%s', immediate := true)", l.name)); err != nil {
		return err
	}
	if err := l.awaitStatus(ctx, "disabled"); err != nil {
		return err
	}
	if err := l.source.await(ctx, "SELECT count(*) = 0 FROM pg_replication_slots WHERE active"); err != nil {
		return fmt.Errorf("wait for the slot to be free: %w", err)
	}
	return nil
}
