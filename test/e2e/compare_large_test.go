package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// within runs f and requires that no server process takes more than that much private
// memory meanwhile, in kB.
func (r *replica) within(most int, what string, f func()) {
	r.t.Helper()
	watch := r.watchMemory("SELECT 0")
	began := time.Now()
	f()
	took := time.Since(began).Round(time.Millisecond)
	watch.stop()
	require.NoError(r.t, watch.err)
	highest := 0
	for process, kB := range watch.peaks {
		assert.Less(r.t, kB, most, "%s: private memory of %s", what, process)
		highest = max(highest, kB)
	}
	r.t.Logf("%s: %s; most private memory of a server process: %d kB of %d", what, took, highest, most)
}

// Rows of 50 MB are compared and merged from a staging table, and no process takes more
// than 200 MB for it, here or on the node; and so much less for smaller ones. Those that
// differ are shipped again like any other large change, in the memory that
// docs/tables.md promises.
func TestCompareLargeRows(t *testing.T) {
	megabytes := numberOf(t, "COURIER_TEST_COPY_MB", 10)
	most := 40*1024 + (mostMemory-40*1024)*megabytes/50
	mostShipped := mostWithout + mostCopies*1000*megabytes*3/2 // of which half is binary
	r := startReplica(t)
	length := megabytes * 1000 * 1000
	fill := fmt.Sprintf(`CREATE TABLE large (id int PRIMARY KEY, t text, b bytea);
		ALTER TABLE large ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
		CREATE TABLE keyless (t text, b bytea);
		CREATE TABLE staging (LIKE large INCLUDING STORAGE);
		CREATE TABLE live (LIKE large INCLUDING ALL);
		INSERT INTO large VALUES (1, 'small', '\x00'), (2, repeat('ä€ "''\x', %[1]d), NULL), (3, NULL, NULL);
		INSERT INTO large SELECT 4, repeat('x', %[2]d), convert_to(repeat('y', %[2]d), 'UTF8');
		INSERT INTO keyless SELECT t, b FROM large;
		INSERT INTO live SELECT * FROM large WHERE id < 4`, length/11, length/2)
	r.inLongStatement(r.source, fill)
	r.inLongStatement(r.target, fill)
	r.add("default", "large")
	r.addKeyless("keyless")
	r.subscribe("{default,log}", false)
	courier := r.startSidecar()
	r.wait()

	compare := func(exit int, args ...string) map[string]comparedTable {
		t.Helper()
		code, tables := r.compare(args...)
		require.Equal(t, exit, code, "%+v", tables)
		return tables
	}
	r.within(most, "compare of equal tables", func() {
		compare(0)
		require.Equal(t, "t", r.sourceValue("SELECT bool_and(equal) FROM courier.compare('to_eu')"))
	})
	r.inLongStatement(r.target, "UPDATE large SET t = t || '.' WHERE id = 2; DELETE FROM large WHERE id = 4; UPDATE keyless SET t = t || '.' WHERE b IS NULL")
	r.within(most, "compare of tables that differ", func() {
		tables := compare(1)
		require.Equal(t, []int64{1, 0, 1}, []int64{tables["public.large"].Missing, tables["public.large"].Extra, tables["public.large"].Different})
		require.False(t, tables["public.keyless"].Equal)
		require.Equal(t, "f f", r.sourceValue("SELECT string_agg(equal::text::char, ' ') FROM courier.compare('to_eu')"))
	})
	peak, err := statusKB(courier.cmd.Process.Pid, "VmHWM")
	require.NoError(t, err)
	require.Less(t, peak, most, "peak memory of the sidecar")

	r.inLongStatement(r.source, `INSERT INTO staging SELECT id, t || '.', b FROM large WHERE id IN (2, 4);
		INSERT INTO staging SELECT 5, t, b FROM large WHERE id = 2; INSERT INTO staging SELECT * FROM large WHERE id IN (1, 3)`)
	r.within(most, "merge of a staging table", func() {
		r.runLong("SELECT courier.merge_staging('staging', 'live', '{id}')", 3*time.Minute)
	})
	const sums = "SELECT string_agg(concat_ws(' ', id, octet_length(t), md5(t), octet_length(b), md5(b)), ',' ORDER BY id) FROM "
	require.Equal(t, r.sourceValue(sums+"staging"), r.sourceValue(sums+"live"))

	r.within(mostShipped, "repair", func() {
		require.EqualValues(t, 2, compare(1, "--repair", "--table", "large")["public.large"].Resent)
		r.wait()
	})
	require.Equal(t, r.sourceValue(sums+"large"), r.targetValue(sums+"large"))
	courier.stop()

	r.within(most, "the session that ships rows again", func() {
		r.runLong(`SELECT courier.resend('large', '[{"id": 2}, {"id": 4}]')`, 3*time.Minute)
	})
}
