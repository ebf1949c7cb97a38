package main

import (
	"context"
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// builtin is PostgreSQL's own logical replication.
type builtin struct {
	*pair
}

func newBuiltin(ctx context.Context, p *pair, _ *config) (shipper, error) {
	b := &builtin{p}
	if err := p.source.exec(ctx, "CREATE PUBLICATION acc FOR TABLE acc"); err != nil {
		return nil, err
	}
	// The slot is made before, as CREATE SUBSCRIPTION can't make it disabled.
	if err := p.source.exec(ctx, "SELECT pg_create_logical_replication_slot('acc', 'pgoutput')"); err != nil {
		return nil, err
	}
	return b, p.target.exec(ctx, fmt.Sprintf(`CREATE SUBSCRIPTION acc CONNECTION 'host=%s port=%d dbname=%s user=%s'
		PUBLICATION acc WITH (enabled = false, create_slot = false, slot_name = 'acc', copy_data = false)`,
		p.source.SocketDir, p.source.Port, database, pgtest.Superuser))
}

func (b *builtin) start(ctx context.Context) error {
	return b.target.exec(ctx, "ALTER SUBSCRIPTION acc ENABLE")
}

func (b *builtin) use(ctx context.Context) (usage, error) { return b.serverUse(ctx) }

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
		if err := b.source.await(ctx, "SELECT confirmed_flush_lsn >= '"+end+"' FROM pg_replication_slots WHERE slot_name = 'acc'"); err != nil {
			return fmt.Errorf("wait for the slot to move on: %w", err)
		}
	}
	if err := b.target.exec(ctx, "ALTER SUBSCRIPTION acc DISABLE"); err != nil {
		return err
	}
	if err := b.target.await(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'logical replication worker'"); err != nil {
		return fmt.Errorf("wait for the apply worker to end: %w", err)
	}
	if err := b.source.await(ctx, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'acc'"); err != nil {
		return fmt.Errorf("wait for the slot to be free: %w", err)
	}
	return nil
}

func (b *builtin) close() error { return nil }
