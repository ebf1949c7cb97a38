package main

import (
	"context"
	"fmt"
)

// builtin is PostgreSQL's own logical replication.
type builtin struct {
	*pair
	resident
	name string // of publication, slot and subscription
}

func newBuiltin(ctx context.Context, p *pair, _ *config) (shipper, error) {
	b := &builtin{p, resident{}, fmt.Sprintf("s%d_%d", p.sourceNumber, p.number)}
	if err := p.source.exec(ctx, fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s", b.name, list(p.tables, ""))); err != nil || p.copies {
		return b, err
	}
	// The slot is made before, as CREATE SUBSCRIPTION can't make it disabled.
	if err := p.source.exec(ctx, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", b.name)); err != nil {
		return nil, err
	}
	return b, b.subscribe(ctx, fmt.Sprintf("enabled = false, create_slot = false, slot_name = '%s', copy_data = false", b.name))
}

func (b *builtin) subscribe(ctx context.Context, options string) error {
	return b.target.exec(ctx, fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %[1]s WITH (%[3]s)",
		b.name, b.sourceFromTarget().conninfo(), options))
}

// start makes the subscription where it copies: that is part of the copy. The copy
// is on disk when it is done, as pg_courier's is, which is not the default.
func (b *builtin) start(ctx context.Context) error {
	if b.copies {
		return b.subscribe(ctx, "synchronous_commit = on")
	}
	return b.target.exec(ctx, "ALTER SUBSCRIPTION "+b.name+" ENABLE")
}

// copiesDone waits until all tables are ready: shipped as any other.
func (b *builtin) copiesDone(ctx context.Context) error {
	return b.target.await(ctx, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")
}

// stop first lets the slot move on: from where it stands, WAL is read again.
func (b *builtin) stop(ctx context.Context) error {
	for range 2 {
		if err := b.source.exec(ctx, "CHECKPOINT"); err != nil { // logs what restart_lsn needs
			return err
		}
		end, err := b.source.text(ctx, "SELECT pg_current_wal_lsn()::text")
		if err != nil {
			return err
		}
		if err := b.source.await(ctx, "SELECT confirmed_flush_lsn >= '"+end+"' FROM pg_replication_slots WHERE slot_name = '"+b.name+"'"); err != nil {
			return fmt.Errorf("wait for the slot to move on: %w", err)
		}
	}
	if err := b.target.exec(ctx, "ALTER SUBSCRIPTION "+b.name+" DISABLE"); err != nil {
		return err
	}
	if err := b.target.await(ctx, "SELECT pid IS NULL FROM pg_stat_subscription WHERE subname = '"+b.name+"'"); err != nil {
		return fmt.Errorf("wait for the apply worker to end: %w", err)
	}
	if err := b.source.await(ctx, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '"+b.name+"'"); err != nil {
		return fmt.Errorf("wait for the slot to be free: %w", err)
	}
	return nil
}
