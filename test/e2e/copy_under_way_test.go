package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// copySight looks at a copy that is under way: which locks others have or wait for on
// table item of either side, and how many of the node's transactions write at once.
type copySight struct {
	r              *replica
	source, target *backend
	here, there    map[string]bool // modes
	lanes          int             // most at once
}

func (r *replica) watchCopy() *copySight {
	s := &copySight{r: r, source: connectBackend(r.t, r.source), target: connectBackend(r.t, r.target),
		here: make(map[string]bool), there: make(map[string]bool)}
	for _, b := range []*backend{s.source, s.target} {
		b.exec("SET lock_timeout = '5s'") // nothing here is to wait
	}
	return s
}

// look looks once, and writes and reads like any other session.
func (s *copySight) look() {
	s.r.t.Helper()
	const modes = `SELECT DISTINCT l.mode FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
		WHERE l.locktype = 'relation' AND l.pid <> pg_backend_pid()
		  AND l.relation IN (SELECT 'item'::regclass UNION SELECT indexrelid FROM pg_index WHERE indrelid = 'item'::regclass
		                     UNION SELECT reltoastrelid FROM pg_class WHERE oid = 'item'::regclass)`
	for _, side := range []struct {
		b    *backend
		seen map[string]bool
	}{{s.source, s.here}, {s.target, s.there}} {
		rows, err := side.b.conn.Query(s.r.t.Context(), modes)
		require.NoError(s.r.t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(s.r.t, err)
		for _, mode := range found {
			side.seen[mode] = true
		}
	}
	var lanes int
	require.NoError(s.r.t, s.target.conn.QueryRow(s.r.t.Context(),
		"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL").Scan(&lanes))
	s.lanes = max(s.lanes, lanes)
	s.source.exec("UPDATE item SET n = n + 1 WHERE id IN (1, 50000)")
	s.source.exec("SELECT count(*) FROM item WHERE id < 10")
	s.source.exec("INSERT INTO item VALUES (0, 0, 'new'); DELETE FROM item WHERE id = 0", pgx.QueryExecModeSimpleProtocol)
	s.target.exec("SELECT count(*) FROM item WHERE id < 10")
}

// Several workers copy one table at once, in a sidecar, which has a session for each,
// and in a session, which has one. What is locked on the source is what every SELECT
// locks; on the node, what every INSERT does. Meanwhile all others read and write.
func TestCopyUnderWay(t *testing.T) {
	r := startSlowCopy(t, 2000, `, "copy_workers": 3`)
	for _, home := range []string{"sidecar", "session"} {
		sight := r.watchCopy()
		noted := r.itemCopy().Done
		end := func() {}
		if home == "sidecar" {
			end = r.startSidecar().stop
		} else {
			b := connectBackend(t, r.source)
			ended := b.start("SELECT courier.ship($1)", subscription)
			end = func() { require.NoError(t, <-ended) }
		}
		eventually(t, "chunks copied by a "+home, func() bool {
			sight.look()
			var chunks int64
			if r.targetValue("SELECT to_regclass('courier_target.copied_chunk') IS NOT NULL") == "t" {
				require.NoError(t, sight.target.conn.QueryRow(t.Context(), "SELECT count(*) FROM courier_target.copied_chunk").Scan(&chunks))
			}
			return chunks >= noted+4
		})
		require.Equal(t, 3, sight.lanes, "connections that write at once, of a "+home)
		require.Equal(t, map[string]bool{"AccessShareLock": true}, sight.here, "locks on the source, of a "+home)
		delete(sight.there, "AccessShareLock")
		require.Equal(t, map[string]bool{"RowExclusiveLock": true}, sight.there, "locks on the node, of a "+home)
		if home == "session" {
			r.setRate("null")
		}
		end()
	}
	r.ship()
	r.requireEqual("item", "other")
}

// notedChunks are the chunks that the node has, and when the last of them came.
func (r *replica) notedChunks() string {
	r.t.Helper()
	return r.targetValue("SELECT count(*) || ' ' || max(copied_at) FROM courier_target.copied_chunk")
}

// passes writes to the table beside the one that is copied, and waits until the node
// has it: whatever was under way before is over then.
func (r *replica) passes(id int) {
	r.t.Helper()
	r.onSource("INSERT INTO other VALUES ($1, 'passes')", id)
	r.target.Eventually(r.t, appDatabase, fmt.Sprintf("SELECT count(*) FROM other WHERE id = %d", id), "1", patience)
}

// A copy that is paused half way rests: nothing is copied, also by another sidecar,
// while changes flow, those of the rows that are there too. Resumed, it goes on behind
// its last chunk.
func TestCopyPausedHalfWay(t *testing.T) {
	r := startSlowCopy(t, 1500, "")
	chunks := r.watchChunks()
	courier := r.startSidecar()
	eventually(t, "some chunks", func() bool { return chunks.seen() > 2 })
	r.onSource("SELECT courier.pause_copy($1)", subscription)
	r.passes(1)
	paused := r.itemCopy()
	require.Equal(t, "paused", paused.State)
	require.Zero(t, paused.Rate+paused.Left, "a pace of what is paused")
	require.Less(t, paused.Done, paused.Total)
	resting := r.notedChunks()
	require.Equal(t, fmt.Sprint(paused.Done), strings.Fields(resting)[0])

	there := r.targetValue("SELECT max(id) FROM item")
	r.onSource("UPDATE item SET n = -1 WHERE id = " + there)
	r.onSource("UPDATE item SET n = -1 WHERE id = 59999; DELETE FROM item WHERE id = 1")
	r.passes(2)
	require.Equal(t, "-1", r.targetValue("SELECT n FROM item WHERE id = "+there))
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM item WHERE id = 1"))
	courier.kill9()
	courier = r.startSidecar()
	r.passes(3)
	r.passes(4)
	require.Equal(t, resting, r.notedChunks(), "copied while it was paused")
	require.Equal(t, "paused", r.itemCopy().State)

	r.onSource("SELECT courier.resume_copy($1)", subscription)
	eventually(t, "more chunks", func() bool { return r.itemCopy().Done > paused.Done })
	r.setRate("null")
	eventually(t, "the copy to end", func() bool { return r.itemCopy().State == "copied" })
	chunks.stop()
	r.wait()
	r.requireEqual("item", "other")
	courier.stop()
}

// A copy that is cancelled half way leaves the rows that have come and the node's
// indexes, and a subscription that ships all else; what `courier copy` says of it is
// how to have the table after all.
func TestCopyCancelledHalfWay(t *testing.T) {
	r := startSlowCopy(t, 1500, `, "copy_indexes": "rebuild"`)
	r.onTarget("CREATE INDEX item_n ON item (n)")
	courier := r.startSidecar()
	const present = "SELECT count(*) FROM pg_class WHERE relname = 'item_n'"
	eventually(t, "some chunks", func() bool { return r.itemCopy().Done > 2 })
	require.Equal(t, "0", r.targetValue(present))
	r.onSource("SELECT courier.cancel_copy($1, 'item')", subscription)
	r.wait()
	require.Equal(t, "1", r.targetValue(present))
	require.Equal(t, "streaming", r.status()["state"])
	cancelled := r.itemCopy()
	require.Equal(t, "cancelled", cancelled.State)
	require.Zero(t, cancelled.Rate+cancelled.Left)
	rows := r.targetValue("SELECT count(*) FROM item")
	require.NotEqual(t, "0", rows)
	r.onSource("UPDATE item SET n = -1; DELETE FROM item WHERE id % 1000 = 0; INSERT INTO item VALUES (0, 0, 'late')")
	r.passes(1)
	require.Equal(t, rows, r.targetValue("SELECT count(*) FROM item WHERE n = id"), "something of the table was sent")

	output, code := r.copyCommand(subscription)
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "the copy of public.item was cancelled")
	r.setRate("null")
	r.onSource(hinted(t, output))
	output, code = r.copyCommand(subscription)
	require.Equal(t, 0, code, output)
	r.wait()
	r.requireEqual("item", "other")
	require.Equal(t, "1", r.targetValue(present))
	courier.stop()
}

// hinted is the statement that a hint gives.
func hinted(t *testing.T, output string) string {
	t.Helper()
	_, statement, found := strings.Cut(output, "SELECT courier.")
	require.True(t, found, output)
	statement, _, found = strings.Cut(statement, ");")
	require.True(t, found, output)
	return "SELECT courier." + statement + ")"
}
