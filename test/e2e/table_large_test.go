package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mostCopies is how often the text form of the largest row may be in the memory
// of a process at once.
const mostCopies = 6

// mostWithout is what a process may take without any such row, in kB.
const mostWithout = 64 * 1024

// largeMB is the size of a large text: COURIER_TEST_MB, of which 200 are promised,
// or one that is many times a batch.
func largeMB(t *testing.T) int { return numberOf(t, "COURIER_TEST_MB", 40) }

// A row with a large text and a bytea of a quarter of its size arrives through
// the sidecar, in memory that docs/tables.md promises; then its key changes and
// the values stay; and what is larger than can be shipped is refused when it is
// written.
func TestLargeValues(t *testing.T) {
	textMB := largeMB(t)
	byteaMB := textMB / 4
	rowKB := (textMB + 2*byteaMB) * 1000
	r := startReplica(t)
	r.onBoth("CREATE TABLE large (id int PRIMARY KEY, v text, b bytea, n int DEFAULT 0)")
	r.add("default", "large")
	r.subscribe("{default}", false)
	courier := r.startSidecar()
	r.wait()
	watch := r.watchMemory("SELECT count(*) FROM large")
	r.runLong(fmt.Sprintf(`INSERT INTO large VALUES (1, repeat('ä€ "''\x', %d), convert_to(repeat('0123456789', %d), 'UTF8')), (2, 'small', '')`,
		textMB*1000*1000/10, byteaMB*1000*1000/10), 3*time.Minute)
	arrived := func(n int) {
		t.Helper()
		r.target.Eventually(t, appDatabase, fmt.Sprintf("SELECT count(*) FROM large WHERE n = %d", n), "2", 3*time.Minute)
	}
	arrived(0)
	r.onSource("UPDATE large SET n = 1, id = id + 10")
	arrived(1)
	peak, err := statusKB(courier.cmd.Process.Pid, "VmHWM")
	require.NoError(t, err)
	watch.stop()
	require.NoError(t, watch.err)
	watch.peaks["sidecar"] = peak
	for process, kB := range watch.peaks {
		require.Less(t, kB, mostWithout+mostCopies*rowKB, "private memory of %s", process)
		if kB > mostWithout {
			t.Logf("a row of %d kB; peak of %s: %d kB", rowKB, process, kB)
		}
	}
	const sums = "SELECT string_agg(concat_ws(' ', id, octet_length(v), md5(v), octet_length(b), md5(b), n), ',' ORDER BY id) FROM large"
	require.Equal(t, r.sourceValue(sums), r.targetValue(sums))

	conn := r.source.Connect(t, appDatabase)
	_, err = conn.Exec(t.Context(), "INSERT INTO large (id, b) SELECT 3, convert_to(repeat('x', 265000000), 'UTF8')")
	require.ErrorContains(t, err, "too large to be captured by pg_courier")
	require.ErrorContains(t, err, "54000")
	r.onSource("INSERT INTO large VALUES (4, 'goes on')")
	r.wait()
	require.Equal(t, r.sourceValue(sums), r.targetValue(sums))
	courier.stop()
}

// A table of as many columns as PostgreSQL allows, by copy and by every kind of
// change.
func TestManyColumns(t *testing.T) {
	r := startReplica(t)
	r.onBoth(`DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE wide (id int PRIMARY KEY, ' || string_agg(format('%I int', 'column ' || i), ', ') || ')'
		FROM generate_series(1, 1599) i); END $$`)
	fill := func(from, to int) string {
		return fmt.Sprintf(`DO $$ BEGIN EXECUTE (SELECT 'INSERT INTO wide SELECT i, ' || string_agg(CASE WHEN c %% 7 = 0 THEN 'NULL' ELSE 'i + ' || c END, ', ')
			|| ' FROM generate_series(%d, %d) i' FROM generate_series(1, 1599) c); END $$`, from, to)
	}
	r.onSource(fill(1, 20))
	r.add("default", "wide")
	r.subscribe("{default}", true)
	r.ship()
	r.onSource(fill(21, 60))
	r.ship()
	r.onSource(`UPDATE wide SET "column 1599" = id WHERE id % 3 = 0; UPDATE wide SET id = id + 1000, "column 7" = 1 WHERE id < 10;
		DELETE FROM wide WHERE id BETWEEN 30 AND 40`)
	r.ship()
	require.Equal(t, "49", r.targetValue("SELECT count(*) FROM wide"))
	const sum = "SELECT md5(string_agg(w::text, ',' ORDER BY id)) FROM wide w"
	require.Equal(t, r.sourceValue(sum), r.targetValue(sum))
}
