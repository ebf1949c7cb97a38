package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// backUpTarget and restoreTarget stand for a backup of the target and its restore:
// rows and progress go back together.
func (r *replica) backUpTarget() {
	r.t.Helper()
	r.onTarget("CREATE TABLE item_backup AS TABLE item; CREATE TABLE progress_backup AS TABLE courier_target.progress")
}

func (r *replica) restoreTarget() {
	r.t.Helper()
	r.onTarget(`BEGIN; TRUNCATE item, courier_target.progress; INSERT INTO item TABLE item_backup;
		INSERT INTO courier_target.progress TABLE progress_backup; COMMIT`)
}

// HAZARDS 21, FAULTS: target restored from backup. What the queue still has is
// shipped again, and is kept from then on, though the node had confirmed it.
func TestTargetRestoredQueueHasIt(t *testing.T) {
	t.Parallel()
	r := startSegments(t)
	r.fillSegment(1000)
	r.ship()
	r.backUpTarget()
	r.fillSegment(2000)
	r.ship()
	r.restoreTarget()

	// It attaches, and gets no further: the target refuses the rows.
	r.onTarget("ALTER TABLE item ADD CONSTRAINT refuse CHECK (id < 2000)")
	courier := r.startSidecar()
	r.eventuallyState("stopped")
	r.onSource("UPDATE courier.queue_current SET since = now() - interval '1 day'")
	eventually(t, "another segment", func() bool { return r.sourceValue("SELECT segment FROM courier.queue_current") == "1" })
	require.Empty(t, r.housekeep())
	require.Equal(t, "0", r.sourceValue("SELECT truncations FROM courier.queue_current"), "the node has not got it any more")
	r.onTarget("ALTER TABLE item DROP CONSTRAINT refuse")
	r.onSource("SELECT courier.alter_subscription_enable($1)", subscription)
	r.wait()
	r.requireEqual("item")
	eventually(t, "the segment emptied", func() bool { return r.sourceValue("SELECT truncations FROM courier.queue_current") == "1" })
	courier.stop()
}

// FAULTS: target restored from backup; DROP TABLE with live subscriptions. Rows of a
// table that was dropped since the backup are shipped again, too: the table is known
// for as long as the queue may have changes of it.
func TestTargetRestoredToBeforeDrop(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	r.onBoth("CREATE TABLE gone (id int PRIMARY KEY)")
	r.add("default", "gone")
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.ship()
	r.backUpTarget()
	r.onSource("INSERT INTO gone VALUES (1), (2)")
	r.ship()
	r.onSource("DROP TABLE gone")
	for id := 2; id < 5; id++ {
		r.onSource("INSERT INTO item VALUES ($1, 'behind the drop')", id)
		r.ship()
	}
	r.restoreTarget()
	r.onTarget("TRUNCATE gone")

	r.ship()
	require.Equal(t, "1,2", r.targetValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM gone"))
	r.requireEqual("item")
	for turn := 1; turn < 4; turn++ {
		r.turnQueue(1000 * turn)
	}
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dropped_table"), "the queue has nothing from before the drop")
}

// What it no longer has, is not skipped.
func TestTargetRestoredQueueHasLostIt(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	r.fillSegment(1000)
	r.ship()
	r.backUpTarget()
	for turn := 2; turn < 5; turn++ {
		r.turnQueue(1000 * turn)
	}
	r.restoreTarget()
	r.onSource("INSERT INTO item VALUES (1, 'after the restore')")

	err := r.source.Run(t.Context(), appDatabase, "SELECT courier.ship($1)", subscription)
	require.ErrorContains(t, err, "needs a resync: the queue no longer has what follows the node's progress")
	courier := r.startSidecar()
	r.eventuallyState("needs_resync")
	require.Contains(t, r.status()["last_error_hint"], "create it again with copy_data => true")
	require.Equal(t, "400", r.targetValue("SELECT count(*) FROM item"), "nothing is shipped")

	r.resync()
	r.wait()
	r.requireEqual("item")
	courier.stop()
}

// A target that has lost its progress starts from the beginning, of which the queue
// has lost a part.
func TestTargetWithoutProgress(t *testing.T) {
	r := startSegments(t, smallSegments())
	r.turnQueue(1000)
	r.onTarget("DELETE FROM courier_target.progress; TRUNCATE item")
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	err := r.source.Run(t.Context(), appDatabase, "SELECT courier.ship($1)", subscription)
	require.ErrorContains(t, err, "needs a resync")
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM item"))
}

// A target that crashes and so loses what was not flushed there gets it again: the
// queue keeps what is not known to be.
func TestTargetCrashLosesUnflushed(t *testing.T) {
	r := startSegments(t, smallSegments(), sleepyWALWriter())
	courier := r.startSidecar()
	for turn := 1; turn <= 6; turn++ {
		r.fillSegment(1000 * turn)
		r.wait()
		r.housekeep()
		r.housekeep()
		require.NoError(t, r.target.Restart(t.Context(), pgtest.Immediate))
	}
	r.onSource("INSERT INTO item VALUES (1, 'after the last crash')")
	r.wait()
	r.requireEqual("item")
	require.NotEqual(t, "0", r.sourceValue("SELECT truncations FROM courier.queue_current"), "nothing was tested")
	courier.stop()
}

// A subscription that is detached while it is shipped: what the queue has given up
// must not be passed over when the node goes on.
func TestDetachedWhileShipping(t *testing.T) {
	r := startSegments(t, smallSegments(), pgtest.Setting("courier.queue_max_size", "1MB"),
		pgtest.Setting("courier.queue_full_policy", "detach"))
	courier := r.startSidecar()
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.wait()

	gate := r.target.Connect(t, appDatabase)
	_, err := gate.Exec(t.Context(), "BEGIN; LOCK TABLE item", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	next := 2
	write := func(rows int) {
		r.onSource("DO $$ BEGIN FOR i IN " + fmt.Sprintf("%d..%d", next, next+rows-1) +
			" LOOP INSERT INTO item VALUES (i, repeat('x', 500)); COMMIT; END LOOP; END $$")
		next += rows
	}
	eventually(t, "a segment given up", func() bool {
		write(500) // goes on whatever the queue is
		return r.sourceValue("SELECT count(*) FROM courier.subscription_state WHERE detached_at IS NOT NULL") == "1" &&
			r.sourceValue("SELECT truncations FROM courier.queue_current") != "0"
	})
	_, err = gate.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	write(10)
	eventually(t, "the shipper to notice", func() bool { return strings.Contains(courier.log.String(), "state=needs_resync") })
	r.eventuallyState("needs_resync")
	require.Contains(t, r.status()["last_error"], "courier.queue_max_size")
	courier.stop() // whatever was under way is over
	require.Equal(t, "t", r.targetValue("SELECT count(*) = max(id) FROM item"), "rows were passed over")
	require.ErrorContains(t, r.source.Run(t.Context(), appDatabase, "SELECT courier.ship($1)", subscription), "it was detached")

	courier = r.startSidecar()
	r.resync()
	r.wait()
	r.requireEqual("item")
	courier.stop()
}

// A shipper in the midst of an interval is told at the next read, also in a snapshot
// from before.
func TestReadWhenDetached(t *testing.T) {
	r := startSegments(t)
	r.fillSegment(1000)
	s, err := session.Connect(t.Context(), r.source.DSN(appDatabase))
	require.NoError(t, err)
	defer s.Close(t.Context())
	start, err := change.ParseSnapshot(r.sourceValue("SELECT start_position FROM courier.subscription"))
	require.NoError(t, err)
	opened, _, err := queue.Next(t.Context(), s, 0, start, 0, 0)
	require.NoError(t, err)
	interval := queue.Resume(change.Position{Start: start, End: &opened.End}) // from its beginning
	interval.Subscription, err = strconv.Atoi(r.sourceValue("SELECT subscription_id FROM courier.subscription"))
	require.NoError(t, err)
	page, err := interval.Read(t.Context(), s, 1, 1000)
	require.NoError(t, err)
	require.Len(t, page.Chunks, 1)
	require.NoError(t, s.Pinned(t.Context(), nil, func() error {
		_, err := interval.Read(t.Context(), s, 1, 1000)
		require.NoError(t, err)
		r.onSource("UPDATE courier.subscription_state SET state = 'needs_resync'")
		_, err = interval.Read(t.Context(), s, 1, 1000)
		require.ErrorIs(t, err, queue.ErrNotHeld)
		return nil
	}))
}

// With policy block writes fail while the node is down, and pass when it is back.
func TestQueueFullBlocksWrites(t *testing.T) {
	r := startSegments(t, smallSegments(), pgtest.Setting("courier.queue_max_size", "1MB"))
	courier := r.startSidecar()
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.wait()
	require.NoError(t, r.target.Stop(pgtest.Immediate))
	var refused error
	for from := 1000; refused == nil; from += 1000 {
		require.Less(t, from, 100_000, "the queue grows without limit")
		refused = r.source.Run(t.Context(), appDatabase, "INSERT INTO item SELECT i, repeat('x', 400) FROM generate_series($1::int, $1 + 99) i", from)
	}
	require.ErrorContains(t, refused, "SQLSTATE 53400")
	require.NoError(t, r.target.Start(t.Context()))
	eventually(t, "a write that passes", func() bool {
		return r.source.Run(t.Context(), appDatabase, "INSERT INTO item VALUES (2, 'two')") == nil
	})
	r.wait()
	r.requireEqual("item")
	courier.stop()
}

func (r *replica) eventuallyState(state string) {
	r.t.Helper()
	r.source.Eventually(r.t, appDatabase, "SELECT state FROM courier.subscription_status", state, patience)
}

// resync does what the hints of needs_resync say.
func (r *replica) resync() {
	r.t.Helper()
	r.onSource("SELECT courier.drop_subscription($1)", subscription)
	r.onTarget("TRUNCATE item")
	r.subscribe("{default}", true)
}
