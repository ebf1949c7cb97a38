package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rows of 50 MB are copied, and no process takes more than 200 MB for it: the
// source's, the target's, the sidecar.
func TestCopyLargeRows(t *testing.T) {
	megabytes := numberOf(t, "COURIER_TEST_COPY_MB", 50)
	r := startReplica(t)
	r.onBoth(`CREATE TABLE large (id int PRIMARY KEY, "t'" text, b bytea, n int);
		ALTER TABLE large ALTER "t'" SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
		CREATE TABLE keyless (t text)`)
	length := megabytes * 1000 * 1000
	r.runLong(fmt.Sprintf(`INSERT INTO large VALUES (1, 'small', '\x00', 1), (2, repeat('ä€ "''\x', %d), NULL, 2),
		(3, 'small', NULL, 3)`, length/11), 3*time.Minute)
	r.runLong(fmt.Sprintf("INSERT INTO large SELECT 4, repeat('x', %d), convert_to(repeat('y', %d), 'UTF8')", length/2, length/2), 3*time.Minute)
	r.runLong(fmt.Sprintf("INSERT INTO keyless SELECT repeat('z', %d)", length/5), 3*time.Minute)
	r.add("default", "large")
	r.addKeyless("keyless")
	courier := r.startSidecar()
	watch := r.watchMemory("SELECT count(*) FROM large")
	r.subscribe("{default,log}", true)
	r.wait()
	peak, err := statusKB(courier.cmd.Process.Pid, "VmHWM")
	require.NoError(t, err)
	watch.stop()
	require.NoError(t, watch.err)
	watch.peaks["sidecar"] = peak
	highest := 0
	for process, kB := range watch.peaks {
		require.Less(t, kB, mostMemory, "private memory of %s", process)
		highest = max(highest, kB)
	}
	t.Logf("rows of %d MB; most private memory of a process: %d kB", megabytes, highest)
	const sums = `SELECT string_agg(concat_ws(' ', id, octet_length("t'"), md5("t'"), octet_length(b), md5(b), n), ',' ORDER BY id) FROM large`
	require.Equal(t, r.sourceValue(sums), r.targetValue(sums))
	const sum = "SELECT count(*) || ' ' || md5(t) FROM keyless GROUP BY t"
	require.Equal(t, r.sourceValue(sum), r.targetValue(sum))
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM courier_target.piece"))
	courier.stop()
}
