package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Rows of 50 MB that follow each other are shipped by a sidecar that takes less than
// 200 MB for it, or by a worker that takes little more: while a statement is sent, dblink
// and libpq have it four times. And so much less for smaller ones.
func TestLargeRowsFollow(t *testing.T) {
	const rows = 5
	megabytes := numberOf(t, "COURIER_TEST_COPY_MB", 15)
	mostSidecar := 80*1024 + (mostMemory-80*1024)*megabytes/50
	for _, home := range []string{"sidecar", "worker"} {
		t.Run(home, func(t *testing.T) {
			r := startReplica(t, pgtest.Preload(home == "worker"))
			r.onBoth("CREATE TABLE large (id int PRIMARY KEY, v text); ALTER TABLE large ALTER v SET STORAGE EXTERNAL")
			r.runLong(fmt.Sprintf("INSERT INTO large SELECT i, repeat(i || 'ä€ \"x\\', %d) FROM generate_series(1, %d) i", megabytes*1000*1000/10, rows), 3*time.Minute)
			r.add("default", "large")
			r.subscribe("{default}", false)
			pid, field, most := 0, "VmHWM", mostSidecar
			if home == "sidecar" {
				courier := r.startSidecar()
				defer courier.stop()
				pid = courier.cmd.Process.Pid
			}
			r.wait()
			if home == "worker" {
				r.onSource("INSERT INTO large VALUES (0)") // it rests when there is nothing to do
				pid, field = r.shipWorker().pid, "RssAnon"
				most += 16 * 1024
			}
			watch := r.watchMemory("SELECT 0")
			r.runLong("SELECT * FROM courier.repair('to_eu')", 3*time.Minute)
			r.wait()
			peak, err := statusKB(pid, field)
			require.NoError(t, err)
			watch.stop()
			require.NoError(t, watch.err)
			for process, kB := range watch.peaks {
				if process == fmt.Sprintf("source, process %d", pid) {
					peak = max(peak, kB)
				}
				if kB > 40*1024 {
					t.Logf("%s: %d kB", process, kB)
				}
			}
			require.Less(t, peak, most, "memory of the %s", home)
			t.Logf("%d rows of %d MB; peak memory of the %s: %d kB of %d", rows, megabytes, home, peak, most)
			const sums = "SELECT string_agg(concat_ws(' ', id, octet_length(v), md5(v)), ',' ORDER BY id) FROM large"
			require.Equal(t, r.sourceValue(sums), r.targetValue(sums))
		})
	}
}

// A large row that the node refuses stops the subscription as a small one does, with the
// rows before it applied; put right, it arrives with those behind it.
func TestLargeRowRefused(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onBoth("CREATE TABLE large (id int PRIMARY KEY, v text)")
	r.onTarget("ALTER TABLE large ADD CONSTRAINT no_second CHECK (id <> 2)")
	r.add("default", "large")
	r.subscribe("{default}", false)
	for id := 1; id <= 3; id++ {
		r.onSource(fmt.Sprintf("INSERT INTO large SELECT %d, repeat('it''s %d ', 1200000)", id, id))
	}
	refused := r.refusedShip("23514")
	require.Contains(t, refused.Message, "public.large")
	require.NotContains(t, refused.Message+refused.Detail+refused.Hint, "it's")
	require.Equal(t, "1", r.targetValue("SELECT string_agg(id::text, ',') FROM large"))
	r.onTarget("ALTER TABLE large DROP CONSTRAINT no_second")
	r.ship()
	r.requireEqual("large")
	r.onSource("UPDATE large SET v = v || '.', id = -id")
	r.ship()
	r.requireEqual("large")
}
