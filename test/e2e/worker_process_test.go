package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Only a ship worker has Go in it, and there PostgreSQL's signals are kept from
// the threads of the engine, idle, under load, and while it waits for the node.
func TestWorkerProcesses(t *testing.T) {
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	for _, kind := range []string{"launcher", "housekeeper"} {
		b := r.worker(kind)
		require.Contains(t, b.maps(), "/pg_courier.so", kind)
		require.NotContains(t, b.maps(), "pg_courier_engine", kind)
		require.Len(t, b.blockedSignals(), 1, "threads of the %s", kind)
	}
	require.NotContains(t, (&backend{t: t, pid: r.source.PostmasterPID()}).maps(), "pg_courier_engine", "postmaster")

	b := r.shipWorker()
	require.Contains(t, b.maps(), "pg_courier_engine")
	check := func(when string) {
		masks := b.blockedSignals()
		b.requireEngineBlocks(masks, when)
		require.True(t, blocks(masks[b.pid], syscall.SIGURG), "SIGURG in the main thread %s, mask %x", when, masks[b.pid])
	}
	idle := func(when string) {
		check(when)
		// while Go runs all are blocked, which passes
		eventually(t, "the main thread to take signals "+when, func() bool {
			mask := b.blockedSignals()[b.pid]
			return !blocks(mask, syscall.SIGTERM) && !blocks(mask, syscall.SIGUSR1)
		})
	}
	idle("at first")
	for i := range 20 {
		r.onSource("INSERT INTO journal SELECT i, 'new' FROM generate_series(1, 1000) i")
		if i%5 == 0 {
			check("under load")
		}
	}
	r.wait()
	idle("after load")

	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'")
	r.awaitBlocked()
	idle("while it waits for the node")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	r.wait()
	r.requireEqual("item", "journal")
	require.Equal(t, b.pid, r.shipWorker().pid, "it is the same worker")
}

// A worker holds no snapshot and no lock but its lease while it has nothing to do,
// so it holds up no vacuum and no change of a table.
func TestWorkerHoldsNothing(t *testing.T) {
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.source.Eventually(t, "postgres", `SELECT count(*) FROM pg_stat_activity a
		WHERE a.backend_type LIKE 'pg\_courier%' AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL OR a.xact_start IS NOT NULL)`, "0", workerPatience)
	r.source.Eventually(t, "postgres", `SELECT string_agg(l.locktype, ',') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type = 'pg_courier ship worker'`, "advisory", workerPatience)
	r.source.Eventually(t, "postgres", `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type IN ('pg_courier launcher', 'pg_courier housekeeper')`, "0", workerPatience)
}

// Settings of a database do not reach the workers, and the owner of the extension,
// as whom they act, need not be allowed to log in.
func TestWorkerSettings(t *testing.T) {
	t.Parallel()
	r := startBare(t, pgtest.Preload(true))
	r.source.Exec(t, "postgres", "CREATE ROLE keeper SUPERUSER NOLOGIN")
	for _, setting := range []string{"default_transaction_read_only = on", "default_transaction_isolation = serializable",
		"statement_timeout = 1", "lock_timeout = 1", "DateStyle = 'SQL, DMY'", "IntervalStyle = sql_standard",
		"TimeZone = 'Asia/Tokyo'", "extra_float_digits = -15", "search_path = public", "bytea_output = escape"} {
		r.source.Exec(t, "postgres", "ALTER DATABASE app SET "+setting)
	}
	// what these statements would make of the settings is not the matter here
	conn := r.source.Connect(t, appDatabase)
	for _, sql := range []string{"SET default_transaction_read_only = off", "SET default_transaction_isolation = 'read committed'",
		"SET statement_timeout = 0", "SET lock_timeout = 0"} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	r.onTarget("CREATE TABLE item (id int PRIMARY KEY, at timestamptz, took interval, weight float8, data bytea)")
	for _, sql := range []string{"SET SESSION AUTHORIZATION keeper",
		"CREATE EXTENSION pg_courier CASCADE",
		"SELECT courier.set_local_node('here')",
		"SELECT courier.create_node('eu', dsn => '" + r.target.DSN(appDatabase) + "')",
		"CREATE TABLE item (id int PRIMARY KEY, at timestamptz, took interval, weight float8, data bytea)",
		"INSERT INTO item VALUES (1, '2026-02-03 04:05:06+00', '1 day -2 hours', 0.1, '\\x00ff')",
		"SELECT courier.replication_set_add_table('default', 'public.item')",
		"SELECT courier.create_subscription('to_eu', 'eu')",
		"INSERT INTO item VALUES (2, '2026-02-03 04:05:06+00', '1 day -2 hours', 0.1, '\\x00ff')"} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	r.target.Eventually(t, appDatabase, `SELECT count(*) FROM item WHERE at = '2026-02-03 04:05:06+00'
		AND took = '1 day -2 hours' AND weight = 0.1 AND data = '\x00ff'`, "2", workerPatience)
	require.NotContains(t, r.source.LogTail(1<<20), "WARNING")
}

// Nor does one that waits for its node keep a snapshot for long, which would hold
// back vacuum: while a batch waits there, the worker's is a new one every second.
func TestWaitingWorkerHoldsNoOldSnapshot(t *testing.T) {
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'")
	r.awaitBlocked()
	b, observer := r.shipWorker(), connectBackend(t, r.source)
	oldest := time.Duration(0)
	for start := time.Now(); time.Since(start) < 6*time.Second && wait(t.Context(), 50*time.Millisecond); {
		var age float64
		require.NoError(t, observer.conn.QueryRow(t.Context(), `SELECT coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8
			FROM pg_stat_activity WHERE pid = $1`, b.pid).Scan(&age))
		oldest = max(oldest, time.Duration(age*float64(time.Second)))
	}
	t.Logf("its oldest transaction took %s", oldest)
	require.Positive(t, oldest)
	require.Less(t, oldest, 3*time.Second)
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	r.wait()
	r.requireEqual("item")
}
