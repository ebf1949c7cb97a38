package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// workerPatience bounds what is done by itself a second or two later, on a machine
// that has other things to do.
const workerPatience = 20 * time.Second

// startWorkers is startReplica with pg_courier preloaded on the source, and tables
// with a subscription.
func startWorkers(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	return startItems(t, append([]pgtest.Option{pgtest.Preload(true)}, opts...)...)
}

// workers counts the source's workers of a type: launcher, housekeeper, ship worker.
func (r *replica) workers(kind string) string {
	r.t.Helper()
	return r.source.Value(r.t, "postgres", fmt.Sprintf(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier %s'", kind))
}

// awaitWorkers waits until there are so many workers of a type.
func (r *replica) awaitWorkers(kind string, count string) {
	r.t.Helper()
	r.source.Eventually(r.t, "postgres", fmt.Sprintf(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier %s'", kind), count, workerPatience)
}

// Preloaded, a database ships by itself: a copy, changes, a table added later.
func TestWorkerShips(t *testing.T) {
	r := startBare(t, pgtest.Preload(true))
	r.install(r.target.DSN(appDatabase))
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE journal (id int, name text)")
	r.onSource("INSERT INTO item SELECT i, 'before ' || i FROM generate_series(1, 1000) i")
	r.add("default", "item")
	r.addKeyless("journal")
	r.subscribe("{default,log}", true)
	r.wait()
	r.requireEqual("item")

	r.onSource("INSERT INTO item SELECT i, 'after ' || i FROM generate_series(1001, 2000) i; INSERT INTO journal SELECT i, 'new' FROM generate_series(1, 100) i")
	r.onSource("UPDATE item SET name = 'changed' WHERE id % 3 = 0; DELETE FROM item WHERE id % 5 = 0")
	r.wait()
	r.requireEqual("item", "journal")
	status := r.status()
	require.Equal(t, "streaming", status["state"])
	require.Equal(t, "worker", status["shipper"])

	r.onBoth("CREATE TABLE later (id int PRIMARY KEY)")
	r.onSource("INSERT INTO later SELECT generate_series(1, 100)")
	r.add("default", "later")
	r.wait()
	r.requireEqual("item", "later")
	require.Equal(t, "1", r.workers("launcher"))
	require.Equal(t, "1", r.workers("housekeeper"))
	require.Equal(t, "1", r.workers("ship worker"))
}
