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
	// The slot is made before, as CREATE SUBSCRIPTION can't make it disabled.
	if err := p.source.execAll(ctx,
		fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s", b.name, list(p.tables, "")),
		fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", b.name)); err != nil {
		return nil, err
	}
	return b, p.target.exec(ctx, fmt.Sprintf(`CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %[1]s
		WITH (enabled = false, create_slot = false, slot_name = '%[1]s', copy_data = %[3]t)`,
		b.name, p.sourceFromTarget().conninfo(), p.copies))
}

func (b *builtin) start(ctx context.Context) error {
	return b.target.exec(ctx, "ALTER SUBSCRIPTION "+b.name+" ENABLE")
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
