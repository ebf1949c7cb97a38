package e2e

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// shipWorker is the process of the one ship worker.
func (r *replica) shipWorker() *backend {
	r.t.Helper()
	r.awaitWorkers("ship worker", "1")
	return r.worker("ship worker")
}

// worker is the process of the one worker of a type.
func (r *replica) worker(kind string) *backend {
	r.t.Helper()
	pid, err := strconv.Atoi(r.source.Value(r.t, "postgres",
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_courier "+kind+"'"))
	require.NoError(r.t, err)
	return &backend{t: r.t, pid: pid}
}

// awaitStatus waits until a condition on the subscription's status holds.
func (r *replica) awaitStatus(condition string) {
	r.t.Helper()
	r.source.Eventually(r.t, appDatabase, "SELECT count(*) FROM courier.subscription_status WHERE "+condition, "1", patience)
}

// FAULTS: kill -9 of the worker. The server restarts all its processes, and
// everything goes on.
func TestWorkerKilled(t *testing.T) {
	r := startBench(t, pgtest.Preload(true))
	r.wait()
	poller := r.startPoller(false)
	work := r.startLoad(loadTime(t), true, clients...)
	random := randomSource(randomSeed(t), 0)
	kills := 0
	for wait(t.Context(), between(random, time.Second, 2*time.Second)) && !work.ended() {
		pid, err := onlyValue(t.Context(), r.source,
			"SELECT pid::text FROM pg_stat_activity WHERE backend_type LIKE 'pg\\_courier%' ORDER BY backend_type = 'pg_courier ship worker' DESC, random() LIMIT 1")
		if err != nil {
			continue // it has not recovered yet
		}
		number, err := strconv.Atoi(pid)
		require.NoError(t, err)
		if syscall.Kill(number, syscall.SIGKILL) == nil {
			kills++
		}
	}
	work.wait()
	t.Logf("%d kills", kills)
	require.Positive(t, kills)
	eventually(t, "the source to have recovered", func() bool {
		_, err := onlyValue(t.Context(), r.source, "SELECT ''")
		return err == nil
	})
	r.wait()
	poller.finish()
	r.requireBenchEqual()
}

// Each worker may be terminated, and comes back.
func TestWorkerTerminated(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	for i, kind := range []string{"ship worker", "housekeeper", "launcher", "ship worker"} {
		r.awaitWorkers(kind, "1")
		old := r.worker(kind).pid
		r.onSource("SELECT pg_terminate_backend($1::text::int)", fmt.Sprint(old))
		r.source.Eventually(t, "postgres", fmt.Sprintf(
			"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier %s' AND pid <> %d", kind, old), "1", workerPatience)
		r.onSource("INSERT INTO item VALUES ($1::text::int, 'new')", fmt.Sprint(i))
		r.wait()
		r.requireEqual("item")
	}
}

// A worker that waits for its node can be cancelled and terminated at once.
func TestWorkerInterrupted(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	for _, function := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		locker := r.target.Connect(t, appDatabase)
		_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
		require.NoError(t, err)
		r.onSource("INSERT INTO journal VALUES (1, $1)", function)
		r.onSource("UPDATE item SET name = 'changed by ' || $1", function)
		r.awaitBlocked()
		b := r.shipWorker()
		busy := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND query LIKE '%%courier.remote%%' AND state = 'active' AND xact_start < '%s'",
			b.pid, r.sourceValue("SELECT clock_timestamp()"))
		require.Equal(t, "1", r.sourceValue(busy), "it waits")
		start := time.Now()
		r.onSource("SELECT "+function+"($1::text::int)", fmt.Sprint(b.pid))
		r.source.Eventually(t, appDatabase, busy, "0", patience)
		took := time.Since(start)
		t.Logf("%s took %s", function, took.Round(time.Millisecond))
		require.Less(t, took, 5*promptly)
		_, err = locker.Exec(t.Context(), "ROLLBACK")
		require.NoError(t, err)
		r.wait()
		r.requireEqual("item", "journal")
	}
}

// A node that is down: the worker says so and goes on when it is back.
func TestWorkerNodeDown(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	require.NoError(t, r.target.Stop(pgtest.Immediate))
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.awaitStatus("state = 'retrying' AND shipper = 'worker' AND last_error IS NOT NULL AND last_error_hint IS NOT NULL AND next_retry_at IS NOT NULL")
	require.NoError(t, r.target.Start(t.Context()))
	r.wait()
	r.awaitStatus("state = 'streaming' AND last_error IS NULL")
	r.requireEqual("item")
}

// A change that the node refuses stops the subscription, and no other; it goes on
// when the node is repaired.
func TestWorkerStopped(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onBoth("CREATE TABLE other (id int PRIMARY KEY)")
	r.onSource("SELECT courier.create_replication_set('others')")
	r.add("others", "other")
	r.onSource("SELECT courier.create_subscription('others', $1, '{others}', copy_data => false)", targetNode)
	r.onTarget("ALTER TABLE item ADD CONSTRAINT small CHECK (id < 10)")
	r.onSource("INSERT INTO item VALUES (1, 'new'), (11, 'secret')")
	r.awaitStatus("subscription_name = 'to_eu' AND state = 'stopped' AND last_error_sqlstate = '23514' AND shipper = 'worker'")
	r.onSource("INSERT INTO other VALUES (1)")
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM other", "1", workerPatience)
	r.onTarget("ALTER TABLE item DROP CONSTRAINT small")
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM item", "2", patience)
	r.awaitStatus("subscription_name = 'to_eu' AND state = 'streaming'")
	r.requireEqual("item", "other")
	require.NotContains(t, r.source.LogTail(1<<20), "secret")
}

// Disabled, dropped, or given to another driver: its worker ends.
func TestWorkerNoLongerWanted(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.onSource("SELECT courier.alter_subscription_disable($1)", subscription)
	r.awaitWorkers("ship worker", "0")
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.onSource("SELECT courier.alter_subscription_enable($1)", subscription)
	r.wait()
	for _, driver := range []string{"sidecar", "none"} {
		r.onSource("UPDATE courier.subscription SET options = jsonb_build_object('driver', $1::text)", driver)
		r.awaitWorkers("ship worker", "0")
		r.onSource("UPDATE courier.subscription SET options = '{\"driver\": \"worker\"}'")
		r.awaitWorkers("ship worker", "1")
	}
	// even while it can't finish what it is at
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'")
	r.awaitBlocked()
	r.onSource("SELECT courier.alter_subscription_disable($1)", subscription)
	r.awaitWorkers("ship worker", "0")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	r.onSource("SELECT courier.alter_subscription_enable($1)", subscription)
	r.wait()
	r.requireEqual("item")
	r.onSource("SELECT courier.drop_subscription($1)", subscription)
	r.awaitWorkers("ship worker", "0")
	require.Equal(t, "1", r.workers("housekeeper"))
}

// When max_worker_processes is used up, log and status say so; a sidecar ships.
func TestWorkersExhausted(t *testing.T) {
	// launcher, logical replication launcher, housekeeper, one ship worker
	r := startWorkers(t, pgtest.Setting("max_worker_processes", "4"))
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.onBoth("CREATE TABLE other (id int PRIMARY KEY)")
	r.onSource("SELECT courier.create_replication_set('others')")
	r.add("others", "other")
	r.onSource("SELECT courier.create_subscription('others', $1, '{others}', copy_data => false)", targetNode)
	r.onSource("INSERT INTO other VALUES (1)")
	r.awaitStatus("subscription_name = 'others' AND state = 'retrying' AND last_error_sqlstate = '53400' AND last_error_hint LIKE '%max_worker_processes%'")
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.wait()

	courier := r.startSidecar()
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM other", "1", workerPatience)
	r.requireEqual("item", "other")
	courier.stop()
}

// An engine that can't be loaded, or panics, is written down.
func TestWorkerWithoutEngine(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.source.Exec(t, "postgres", "ALTER SYSTEM SET courier.engine_library = '/nonexistent/engine'")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.onSource("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_courier ship worker'")
	r.awaitStatus("state = 'retrying' AND last_error LIKE '%load pg_courier''s engine%' AND last_error_hint IS NOT NULL")
	r.source.Exec(t, "postgres", "ALTER SYSTEM RESET courier.engine_library")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.wait()
	r.requireEqual("item")
}

// A panic in the engine ends its worker, whose error is written down; the server
// and the other subscriptions go on.
func TestWorkerPanic(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	engine := buildFaultyEngine(t, r.source.Dir)
	r.source.Exec(t, "postgres", "ALTER SYSTEM SET courier.engine_library = '"+engine+"'")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	started := r.sourceValue("SELECT pg_postmaster_start_time()")
	r.onSource("SELECT courier.create_subscription('panic', $1, '{default}', copy_data => false)", targetNode)
	r.awaitStatus("subscription_name = 'panic' AND state = 'retrying' AND last_error LIKE '%panicked%' AND last_error_sqlstate = 'XX000' AND last_error_hint IS NOT NULL")
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.requireEqual("item")
	require.Equal(t, started, r.sourceValue("SELECT pg_postmaster_start_time()"), "the server was not restarted")
	require.NotContains(t, r.source.LogTail(1<<20), "terminated by signal")
}
