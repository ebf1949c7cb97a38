package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// smallSegments makes writers move on all the time.
func smallSegments() pgtest.Option { return pgtest.Setting("courier.segment_size", "64kB") }

// startSegments is startReplica with a table that is subscribed, empty.
func startSegments(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	return r
}

// housekeep does it once and says what was done, a line each.
func (r *replica) housekeep() string {
	r.t.Helper()
	var done []string
	for _, row := range r.source.Query(r.t, appDatabase, "SELECT action, object FROM courier.housekeep()") {
		done = append(done, row[0]+" "+strings.TrimPrefix(row[1], "courier."))
	}
	return strings.Join(done, "\n")
}

// fillSegment writes more than a small segment takes, from the given id on.
func (r *replica) fillSegment(from int) {
	r.t.Helper()
	r.onSource("INSERT INTO item SELECT i, repeat('x', 400) FROM generate_series($1::int, $1 + 399) i", from)
}

// turnQueue empties all segments but the current one, which is another then.
func (r *replica) turnQueue(from int) {
	r.t.Helper()
	r.fillSegment(from)
	r.ship()
	require.Contains(r.t, r.housekeep(), "rotate")
	require.Contains(r.t, r.housekeep(), "truncate")
}

// FAULTS: REPEATABLE READ writer across a rotation. Its snapshot is older than the
// rotation, its place in the queue is not.
func TestRotationRepeatableReadWriter(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	ctx := t.Context()
	writers := make([]*pgx.Conn, 3)
	for i, isolation := range []string{"REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"} {
		conn := r.source.Connect(t, appDatabase)
		writers[i] = conn
		for _, sql := range []string{
			fmt.Sprintf("INSERT INTO item VALUES (%d, 'so that it knows the segment')", i),
			"BEGIN ISOLATION LEVEL " + isolation,
			"SELECT count(*) FROM item",
			fmt.Sprintf("INSERT INTO item VALUES (%d, 'before the rotation')", 10+i),
		} {
			_, err := conn.Exec(ctx, sql)
			require.NoError(t, err)
		}
	}
	for turn := 1; turn <= 4; turn++ { // back to the segment it was, and on
		r.turnQueue(1000 * turn)
	}
	for i, conn := range writers {
		for _, sql := range []string{fmt.Sprintf("INSERT INTO item VALUES (%d, 'after it')", 20+i), "COMMIT"} {
			_, err := conn.Exec(ctx, sql)
			require.NoError(t, err)
		}
	}
	r.housekeep()
	r.ship()
	r.requireEqual("item")
}

// A writer that has chosen a segment just before writers move on writes into one
// that is no longer the current one; readers look into all of them.
func TestRotationWriterInFormerSegment(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	ctx := t.Context()
	r.fillSegment(1000)
	r.ship()

	gate := r.source.Connect(t, appDatabase) // keeps writers out of the segment
	_, err := gate.Exec(ctx, "BEGIN; LOCK TABLE courier.queue_0 IN SHARE MODE", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	written := make(chan error)
	writer := r.source.Connect(t, appDatabase)
	pid := writer.PgConn().PID()
	go func() {
		_, err := writer.Exec(ctx, "INSERT INTO item VALUES (1, 'late')")
		written <- err
	}()
	eventually(t, "the writer at its segment", func() bool {
		return r.sourceValue("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'courier.queue_0'::regclass AND pid = "+
			fmt.Sprint(pid)) == "1"
	})
	require.Equal(t, "rotate queue_1", r.housekeep())
	require.Empty(t, r.housekeep(), "the segment is in use")
	_, err = gate.Exec(ctx, "COMMIT")
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.Equal(t, "1", r.sourceValue("SELECT count(*) FROM courier.queue_0 WHERE changes = 1"))

	require.Empty(t, r.housekeep(), "the segment holds what is not shipped")
	r.ship()
	r.requireEqual("item")
	require.Equal(t, "truncate queue_0", r.housekeep())
	r.turnQueue(2000)
	r.requireEqual("item")
}

// A transaction takes its place in the order of shipping when it is prepared, and
// may commit when everything around it is confirmed, and writers have moved on.
func TestRotationPreparedWriter(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	for _, sql := range []string{"BEGIN; INSERT INTO item VALUES (1, 'prepared'); PREPARE TRANSACTION 'kept'",
		"BEGIN; INSERT INTO item VALUES (2, 'prepared'); PREPARE TRANSACTION 'given up'"} {
		r.onSource(sql)
	}
	r.fillSegment(1000)
	r.ship()
	require.Equal(t, "rotate queue_1", r.housekeep())
	for turn := 2; turn < 5; turn++ { // the two other segments take turns
		r.fillSegment(1000 * turn)
		r.ship()
		r.housekeep()
		r.housekeep()
	}
	require.NotEqual(t, "0", r.sourceValue("SELECT pg_relation_size('courier.queue_0')"))
	require.Contains(t, r.sourceValue("SELECT held_by FROM courier.queue_status WHERE segment = 'queue_0'"),
		`prepared transaction "given up"`)
	r.onSource("ROLLBACK PREPARED 'given up'")
	kept := make(chan struct{}) // must not wait, and then empty what has been committed meanwhile
	go func() {
		defer close(kept)
		_ = r.source.Run(context.Background(), appDatabase, "SELECT courier.housekeep()")
	}()
	eventually(t, "housekeeping", func() bool {
		return closed(kept) || r.sourceValue("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'courier.queue_0'::regclass") != "0"
	})
	r.onSource("COMMIT PREPARED 'kept'")
	<-kept
	r.housekeep()
	r.housekeep()
	require.NotEqual(t, "0", r.sourceValue("SELECT pg_relation_size('courier.queue_0')"))
	r.ship()
	r.requireEqual("item")
	require.Contains(t, r.housekeep(), "truncate queue_0")
}

// A subscription none of whose tables are changed passes what is queued for others,
// and does not keep it.
func TestRotationQuietSubscription(t *testing.T) {
	t.Parallel()
	r := startSegments(t, smallSegments())
	r.onBoth("CREATE TABLE rare (id int PRIMARY KEY)")
	r.onSource("SELECT courier.create_replication_set('rare')")
	r.add("rare", "rare")
	r.onSource("SELECT courier.create_subscription('quiet', 'eu', '{rare}', copy_data => false)")
	for turn := 1; turn <= 3; turn++ {
		r.fillSegment(1000 * turn)
		r.onSource("SELECT courier.ship()")
		require.Contains(t, r.housekeep(), "rotate")
		require.Contains(t, r.housekeep(), "truncate")
	}
	courier := r.startSidecar()
	for turn := 4; turn <= 6; turn++ {
		before := r.sourceValue("SELECT truncations FROM courier.queue_current")
		r.fillSegment(1000 * turn)
		eventually(t, "a segment emptied", func() bool {
			return r.sourceValue("SELECT truncations FROM courier.queue_current") != before
		})
	}
	r.onSource("INSERT INTO rare VALUES (1)")
	eventually(t, "the rare row", func() bool { return r.targetValue("SELECT count(*) FROM rare") == "1" })
	r.wait()
	r.requireEqual("item", "rare")
	courier.stop()
}
