package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// tally counts what a writer has committed.
type tally struct{ inserted, updated, deleted int }

// write makes small transactions until ctx is over: inserts, two updates of a row
// each, now and then a delete.
func (c *tally) write(ctx context.Context, conn *pgx.Conn) error {
	for ctx.Err() == nil {
		id := c.inserted + 1
		batch := &pgx.Batch{}
		batch.Queue("INSERT INTO item VALUES ($1, 'new')", id)
		batch.Queue("UPDATE item SET name = 'changed' WHERE id = $1", id)
		batch.Queue("UPDATE item SET name = 'again' WHERE id = $1", id)
		if id%3 == 0 {
			batch.Queue("DELETE FROM item WHERE id = $1", id)
			c.deleted++
		}
		// a batch is one transaction; it is seen through whatever ctx says
		if err := conn.SendBatch(context.WithoutCancel(ctx), batch).Close(); err != nil {
			return err
		}
		c.inserted++
		c.updated += 2
	}
	return nil
}

// requireCounted waits until the statistics say exactly what was committed.
func (r *replica) requireCounted(c *tally) {
	r.t.Helper()
	want := fmt.Sprintf("%d %d %d", c.inserted, c.updated, c.deleted)
	r.source.Eventually(r.t, appDatabase, `SELECT format('%s %s %s | %s %s %s | %s', captured_inserts, captured_updates,
		captured_deletes, inserted, updated, deleted, shipped) FROM courier.stat_subscription`,
		fmt.Sprintf("%s | %s | %d", want, want, c.inserted+c.updated+c.deleted), workerPatience)
}

// Whoever ships counts: the worker, the sidecar, a session. What one has counted
// is not lost when another takes over, and nothing counts twice; nor when the
// connection to the node breaks while a commit is under way.
func TestStatistics(t *testing.T) {
	r := startBare(t, pgtest.Preload(true))
	proxy := faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", r.target.Port))
	r.install(throughProxy(proxy, appDatabase))
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.awaitWorkers("ship worker", "1")

	var counted tally
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	writer := r.source.Connect(t, appDatabase)
	var group sync.WaitGroup
	group.Go(func() {
		if err := counted.write(ctx, writer); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	breaks := func() {
		t.Helper()
		seen := proxy.Resets()
		proxy.ResetPeer(0.02, randomSource(randomSeed(t), 0))
		eventually(t, "broken connections", func() bool { return proxy.Resets() >= seen+3 })
		proxy.Restore()
		r.awaitStatus("state = 'streaming' AND updated_at > '" + r.sourceValue("SELECT clock_timestamp()") + "'")
	}

	breaks() // of the worker
	courier := r.startSidecar()
	eventually(t, "the sidecar to take over", func() bool {
		return strings.Contains(courier.log.String(), "subscription is streaming")
	})
	breaks()
	courier.stop()
	r.awaitStatus("shipper = 'worker' AND state = 'streaming'")
	stop()
	group.Wait()
	r.wait()
	r.requireCounted(&counted)
	r.requireEqual("item")
	require.Equal(t, "t t t t t", r.sourceValue(`SELECT format('%s %s %s %s %s', batches > 0, bytes > 0, read_time > 0, render_time > 0,
		apply_time > 0) FROM courier.stat_subscription`))
	t.Logf("%d transactions, %d broken connections; %s", counted.inserted, proxy.Resets(), r.sourceValue(
		`SELECT format('%s batches, folded %s; read %s ms, render %s ms, apply %s ms', batches, folded, read_time, render_time, apply_time)
		 FROM courier.stat_subscription`))

	// a session
	r.onSource("SELECT courier.alter_subscription_options($1, '{\"driver\": \"none\"}')", subscription)
	r.awaitWorkers("ship worker", "0")
	r.onSource("INSERT INTO item VALUES (-1, 'by hand')")
	r.ship()
	counted.inserted++
	r.requireCounted(&counted)

	// a restart of the source loses nothing that was written down
	require.NoError(t, r.source.Restart(t.Context(), pgtest.Fast))
	r.requireCounted(&counted)
	r.onSource("SELECT courier.reset_statistics()")
	r.requireCounted(&tally{})
}

// A sidecar that loses the source keeps what it has counted and not written down,
// and writes it when the source is back.
func TestStatisticsSourceLost(t *testing.T) {
	r := startItems(t)
	courier := r.startSidecar()
	r.awaitStatus("state = 'streaming'")
	var counted tally
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	writer := r.source.Connect(t, appDatabase)
	var group sync.WaitGroup
	group.Go(func() {
		if err := counted.write(ctx, writer); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	for range 3 {
		r.awaitStatus("state = 'streaming' AND updated_at > '" + r.sourceValue("SELECT clock_timestamp()") + "'")
		require.NotEqual(t, "0", r.sourceValue(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE application_name LIKE 'pg_courier%'`))
	}
	stop()
	group.Wait()
	r.wait()
	r.requireCounted(&counted)
	r.requireEqual("item")
	courier.stop()
}

// What a stopped subscription has met, and shipped before that, is counted while it
// is stopped; the same again counts once.
func TestStatisticsOfStopped(t *testing.T) {
	r := startItems(t)
	r.onSource("SELECT courier.alter_subscription_options($1, '{\"on_conflict\": \"error\"}')", subscription)
	courier := r.startSidecar("--log-level", "debug")
	r.onTarget("INSERT INTO item VALUES (2, 'mine')")
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.onSource("INSERT INTO item VALUES (2, 'two')")
	r.awaitStatus("state = 'stopped'")
	count := func(want string) {
		t.Helper()
		r.source.Eventually(t, appDatabase,
			"SELECT format('%s shipped, %s exist', inserted, confl_insert_exists) FROM courier.stat_table WHERE table_name = 'item'",
			want, workerPatience)
	}
	count("1 shipped, 1 exist")
	tries := strings.Count(courier.log.String(), "shipping a batch row by row")
	eventually(t, "more tries", func() bool {
		return strings.Count(courier.log.String(), "shipping a batch row by row") > tries
	})
	r.onTarget("DELETE FROM item WHERE id = 2")
	r.awaitStatus("state = 'streaming'")
	count("2 shipped, 1 exist")
	courier.stop()
}
