package e2e

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// sleepyWALWriter lets WAL that nobody waits for stay in memory, where a crash
// takes it.
func sleepyWALWriter() pgtest.Option {
	return pgtest.Settings(map[string]string{
		"wal_writer_delay": "10s", "wal_writer_flush_after": "0",
		"bgwriter_delay": "10s", "autovacuum": "off",
	})
}

// A transaction that the source may still lose in a crash must not be on the
// target when it does.
func TestSourceCrashLosesUnflushedCommit(t *testing.T) {
	r := startReplica(t, sleepyWALWriter())
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.ship()

	r.shipAndCrash("SET synchronous_commit = off; INSERT INTO item VALUES (1, 'not flushed')")
	r.ship()
	r.requireEqual("item")
	r.onSource("INSERT INTO item VALUES (2, 'after the crash')")
	r.ship()
	r.requireEqual("item")
}

// Ids of transactions that a crash has taken are given again; a position that
// counts them as done would skip their new owners.
func TestSourceCrashReusesTransactionIDs(t *testing.T) {
	r := startReplica(t, sleepyWALWriter())
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.ship()

	r.shipAndCrash("INSERT INTO item VALUES (1, 'flushed')",
		"BEGIN; INSERT INTO item VALUES (2, 'rolled back'); ROLLBACK",
		"BEGIN; INSERT INTO item VALUES (3, 'rolled back'); ROLLBACK",
		"BEGIN; INSERT INTO item VALUES (4, 'rolled back'); ROLLBACK")
	for _, name := range []string{"a", "b", "c"} {
		r.onSource("INSERT INTO item VALUES (ascii($1), $1)", name)
	}
	r.ship()
	r.requireEqual("item")
	require.Equal(t, "4", r.targetValue("SELECT count(*) FROM item"))
}

// shipAndCrash runs statements, each string a transaction, on the source, ships what they did, and crashes
// the source before the shipping transaction has ended.
func (r *replica) shipAndCrash(statements ...string) {
	r.t.Helper()
	ctx := context.Background()
	conn := r.source.Connect(r.t, appDatabase)
	for _, sql := range append(statements, "BEGIN", "SELECT courier.ship('"+subscription+"')") {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(r.t, err)
	}
	require.NoError(r.t, r.source.Restart(ctx, pgtest.Immediate))
}
