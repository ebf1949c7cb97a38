package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// statementPatience bounds a statement that must not wait for a worker. PostgreSQL
// itself waits five seconds for other sessions of a database.
const statementPatience = 15 * time.Second

// promptlyExec executes a statement that has to be done in a few seconds.
func promptlyExec(t *testing.T, cluster *pgtest.Cluster, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementPatience)
	defer cancel()
	start := time.Now()
	require.NoError(t, cluster.Run(ctx, database, sql), sql)
	t.Logf("%s: %s", sql, time.Since(start).Round(time.Millisecond))
}

// shipsFrom makes a database of the source ship the table item to the target's
// database of the same name, and waits for a row.
func (r *replica) shipsFrom(database string, extension bool) {
	r.t.Helper()
	r.target.Exec(r.t, database, "CREATE TABLE item (id int PRIMARY KEY, name text)")
	if extension {
		r.source.Exec(r.t, database, "CREATE EXTENSION pg_courier CASCADE")
	}
	r.source.Exec(r.t, database, "CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.source.Exec(r.t, database, "SELECT courier.set_local_node('here')")
	r.source.Exec(r.t, database, "SELECT courier.create_node('eu', dsn => $1)", r.target.DSN(database))
	r.source.Exec(r.t, database, "SELECT courier.replication_set_add_table('default', 'item')")
	r.source.Exec(r.t, database, "SELECT courier.create_subscription('to_eu', 'eu', copy_data => false)")
	r.arrives(database, 1)
}

// arrives inserts a row and waits until it is on the target.
func (r *replica) arrives(database string, id int) {
	r.t.Helper()
	r.source.Exec(r.t, database, "INSERT INTO item VALUES ($1::text::int, 'new')", fmt.Sprint(id))
	r.target.Eventually(r.t, database, fmt.Sprintf("SELECT count(*) FROM item WHERE id = %d", id), "1", workerPatience)
}

// awaitWorkersOf waits until a database has so many workers.
func (r *replica) awaitWorkersOf(database, count string) {
	r.t.Helper()
	r.source.Eventually(r.t, "postgres", fmt.Sprintf(
		"SELECT count(*) FROM pg_stat_activity WHERE datname = '%s' AND backend_type LIKE 'pg\\_courier %%'", database),
		count, workerPatience)
}

// Databases and extensions that come later, in any way, are found; each database
// has workers of its own.
func TestWorkersFindDatabases(t *testing.T) {
	t.Parallel()
	r := startBare(t, pgtest.Preload(true), pgtest.Setting("max_worker_processes", "20"))
	r.source.Eventually(t, "postgres",
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier launcher'", "1", workerPatience)
	r.shipsFrom(appDatabase, true) // was there before

	for _, name := range []string{"second", `Odd 'name"`} {
		r.source.Database(t, name)
		r.target.Database(t, name)
		r.shipsFrom(name, true)
		r.arrives(appDatabase, 10+len(name))
	}
	require.Equal(t, "3", r.workers("housekeeper"))
	require.Equal(t, "3", r.workers("ship worker"))
	require.Equal(t, "0", r.source.Value(t, "postgres",
		"SELECT count(*) FROM pg_stat_activity WHERE datname IN ('postgres', 'template1') AND backend_type LIKE 'pg\\_courier%'"))

	// with the extension from the start
	r.source.Exec(t, "postgres", "CREATE DATABASE base")
	r.source.Exec(t, "base", "CREATE EXTENSION pg_courier CASCADE")
	r.awaitWorkersOf("base", "1")
	r.target.Database(t, "copy")
	promptlyExec(t, r.source, "postgres", "CREATE DATABASE copy TEMPLATE base")
	r.shipsFrom("copy", false)

	// rolled back, and created again
	r.source.Database(t, "undecided")
	r.target.Database(t, "undecided")
	r.source.Exec(t, "undecided", "BEGIN; CREATE EXTENSION pg_courier CASCADE; ROLLBACK")
	r.shipsFrom("undecided", true)
}

// DROP DATABASE, RENAME, TABLESPACE and TEMPLATE need a database for themselves;
// the workers leave it, and come back where there is something to come back to.
func TestWorkersLeaveDatabase(t *testing.T) {
	t.Parallel()
	r := startBare(t, pgtest.Preload(true))
	r.shipsFrom(appDatabase, true)
	r.awaitWorkersOf(appDatabase, "2")

	promptlyExec(t, r.source, "postgres", "CREATE DATABASE clone TEMPLATE app")
	r.arrives(appDatabase, 2)
	promptlyExec(t, r.source, "postgres", "DROP DATABASE clone")
	require.Equal(t, "2", r.targetValue("SELECT count(*) FROM item"), "the clone, which is not the source, has shipped")

	promptlyExec(t, r.source, "postgres", "ALTER DATABASE app RENAME TO moved")
	r.source.Exec(t, "moved", "INSERT INTO item VALUES (3, 'new')")
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM item", "3", workerPatience)
	promptlyExec(t, r.source, "postgres", "ALTER DATABASE moved RENAME TO app")
	r.arrives(appDatabase, 4)

	// what fails brings them back too
	err := r.source.Run(t.Context(), "postgres", "ALTER DATABASE app RENAME TO postgres")
	requireState(t, "42P04", err)
	r.arrives(appDatabase, 5)
	// so does what nobody but the owner may do, who has not done it
	r.source.Exec(t, "postgres", "CREATE ROLE nobody LOGIN")
	started := r.sourceValue("SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type LIKE 'pg\\_courier%'")
	nobody, err := pgx.Connect(t.Context(), strings.Replace(r.source.SocketDSN("postgres"), "user=postgres", "user=nobody", 1))
	require.NoError(t, err)
	defer nobody.Close(context.Background())
	_, err = nobody.Exec(t.Context(), "DROP DATABASE app")
	requireState(t, "42501", err)
	require.Equal(t, started, r.sourceValue("SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type LIKE 'pg\\_courier%'"))

	promptlyExec(t, r.source, "postgres", "DROP DATABASE app")
	r.awaitWorkers("housekeeper", "0")
	require.NotContains(t, r.source.LogTail(1<<20), "is being accessed by other users")
}

// DROP EXTENSION and ALTER EXTENSION do not wait for a worker, not even for one that
// copies; after a rollback, or with the extension anew, shipping goes on.
func TestWorkersLeaveExtension(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	promptlyExec(t, r.source, appDatabase, "ALTER EXTENSION pg_courier UPDATE")
	promptlyExec(t, r.source, appDatabase, "BEGIN; DROP EXTENSION pg_courier; ROLLBACK")
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.wait()
	r.requireEqual("item")

	// a copy that has to wait on the node: its locks on the source are held
	r.onBoth("CREATE TABLE large (id int PRIMARY KEY, name text)")
	r.onSource("INSERT INTO large SELECT i, 'old' FROM generate_series(1, 1000) i")
	r.onSource("SELECT courier.create_replication_set('copied')")
	r.add("copied", "large")
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE large IN SHARE MODE")
	require.NoError(t, err)
	r.onSource("SELECT courier.create_subscription('copies', 'eu', '{copied}')")
	r.awaitBlocked()
	promptlyExec(t, r.source, appDatabase, "DROP EXTENSION pg_courier CASCADE")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	r.awaitWorkers("ship worker", "0")
	r.awaitWorkers("housekeeper", "0")
	require.Equal(t, "1", r.workers("launcher"))

	r.onTarget("DROP SCHEMA courier_target CASCADE; TRUNCATE item, journal, large")
	r.onSource("DELETE FROM item") // the node's foreign server went with the extension
	r.install(r.target.DSN(appDatabase))
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.onSource("INSERT INTO item VALUES (3, 'new')")
	r.wait()
	r.requireEqual("item")
	require.NotContains(t, r.source.LogTail(1<<20), "PANIC")
}

// The setting takes effect at a reload, for all databases or for one.
func TestWorkersSwitchedOff(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	r.source.Exec(t, "postgres", "ALTER SYSTEM SET courier.workers = off")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.awaitWorkers("ship worker", "0")
	r.awaitWorkers("housekeeper", "0")
	r.onSource("INSERT INTO item VALUES (2, 'shipped by a session')")
	r.ship()
	r.requireEqual("item")

	r.source.Exec(t, "postgres", "ALTER SYSTEM RESET courier.workers")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.onSource("INSERT INTO item VALUES (3, 'new')")
	r.wait()
	r.requireEqual("item")

	r.source.Exec(t, "postgres", "ALTER DATABASE app SET courier.workers = off")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.awaitWorkersOf(appDatabase, "0")
	r.source.Exec(t, "postgres", "ALTER DATABASE app RESET courier.workers")
	r.source.Exec(t, "postgres", "SELECT pg_reload_conf()")
	r.onSource("INSERT INTO item VALUES (4, 'new')")
	r.wait()
	r.requireEqual("item")
}

// Every process of the server has to answer before CREATE DATABASE and DROP
// DATABASE go on, of whatever database: a worker that waits for its node does.
func TestWorkersAnswerWhileShipping(t *testing.T) {
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'")
	r.awaitBlocked()
	b := r.shipWorker()
	promptlyExec(t, r.source, "postgres", "CREATE DATABASE bystander")
	promptlyExec(t, r.source, "postgres", "DROP DATABASE bystander")
	require.Equal(t, b.pid, r.shipWorker().pid, "it is the same worker")

	promptlyExec(t, r.source, "postgres", "DROP DATABASE app")
	r.awaitWorkers("ship worker", "0")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}

// Who drops another database waits until every backend has taken notice: a worker
// that connects to a node which says nothing does not keep them waiting.
func TestConnectingWorkerHoldsUpNobody(t *testing.T) {
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // the kernel takes connections, nobody answers
	require.NoError(t, err)
	defer silent.Close()
	r := startBare(t, pgtest.Preload(true))
	r.source.Database(t, "bystander")
	r.install(fmt.Sprintf("host=127.0.0.1 port=%d dbname=app user=nobody", silent.Addr().(*net.TCPAddr).Port))
	r.onSource("CREATE TABLE item (id int PRIMARY KEY)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.onSource("INSERT INTO item VALUES (1)")
	r.source.Eventually(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier ship worker'
		AND state = 'active' AND query LIKE '%remote_connect%' AND clock_timestamp() - query_start < '500 ms'`, "1", workerPatience)
	start := time.Now()
	r.source.Exec(t, "postgres", "DROP DATABASE bystander")
	took := time.Since(start)
	t.Logf("DROP DATABASE took %s", took)
	require.Less(t, took, 3*time.Second)
	r.awaitStatus("state = 'retrying' AND last_error_sqlstate = '08001'")
}
