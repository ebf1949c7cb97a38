package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// startFailover is startReplica with rows of item shipped, and a standby of the
// source that has them all.
func startFailover(t *testing.T) (*replica, *pgtest.Cluster) {
	t.Helper()
	r := startReplica(t)
	standby := r.startStandby("standby")
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", true)
	r.onSource("INSERT INTO item SELECT i, 'shipped' FROM generate_series(1, 10) i")
	r.ship()
	r.requireEqual("item")
	r.awaitStandby(standby)
	return r, standby
}

func (r *replica) startStandby(name string) *pgtest.Cluster {
	r.t.Helper()
	return pgtest.Start(r.t, pgtest.Name(name), pgtest.StandbyOf(r.source), pgtest.Settings(map[string]string{
		"max_prepared_transactions": "64", "wal_retrieve_retry_interval": "100ms",
	}))
}

// awaitStandby waits until the standby has all that the source has committed.
func (r *replica) awaitStandby(standby *pgtest.Cluster) {
	r.t.Helper()
	flushed := r.sourceValue("SELECT flushed FROM courier.flush_wal()")
	standby.Eventually(r.t, appDatabase, "SELECT pg_last_wal_replay_lsn() >= '"+flushed+"'", "t", patience)
}

// failOver promotes the standby, which then is the source.
func (r *replica) failOver(standby *pgtest.Cluster) {
	r.t.Helper()
	standby.Exec(r.t, "postgres", "SELECT pg_promote()")
	r.source = standby
}

// A standby that has everything goes on where the source was: nothing is lost,
// nothing comes twice.
func TestSourceFailover(t *testing.T) {
	t.Parallel()
	r, standby := startFailover(t)
	r.onSource("UPDATE item SET name = 'queued' WHERE id = 1; INSERT INTO item VALUES (11, 'queued')")
	r.awaitStandby(standby)
	require.NoError(t, r.source.Stop(pgtest.Immediate))
	r.failOver(standby)
	r.onSource("INSERT INTO item VALUES (12, 'behind the failover')")
	courier := r.startSidecar()
	r.wait()
	r.requireEqual("item")

	// and a second one: the timeline is the next but one
	second := r.startStandby("second")
	r.onSource("INSERT INTO item VALUES (13, 'before the second failover')")
	r.wait()
	r.awaitStandby(second)
	courier.stop()
	require.NoError(t, r.source.Stop(pgtest.Immediate))
	r.failOver(second)
	r.onSource("INSERT INTO item VALUES (14, 'behind the second failover')")
	r.ship()
	r.requireEqual("item")
}

// A standby that lacks what was shipped gives the same transaction ids to other
// work. However much of it there has been before anybody ships again: none of it
// is taken for shipped, and the subscription says what is to be done.
func TestSourceFailoverLosesShipped(t *testing.T) {
	t.Parallel()
	r, standby := startFailover(t)
	require.NoError(t, standby.Stop(pgtest.Fast))
	r.onSource("INSERT INTO item VALUES (11, 'shipped and lost')")
	r.ship()
	require.NoError(t, r.source.Stop(pgtest.Immediate))
	require.NoError(t, standby.Start(context.Background()))
	r.failOver(standby)
	for range 30 {
		r.onSource("INSERT INTO item SELECT 100 + count(*), 'written since' FROM item")
	}

	courier := r.startSidecar()
	eventually(t, "the subscription to stop", func() bool { return r.status()["state"] == "needs_resync" })
	require.Contains(t, r.status()["last_error"], "the node is ahead of this source")
	require.Contains(t, r.status()["last_error_hint"], "create it again")
	require.Equal(t, "11", r.targetValue("SELECT count(*) FROM item"), "rows went to a target that has others")
	courier.stop()
}
