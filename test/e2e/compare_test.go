package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// startCompared is startReplica with tables that hold the same rows on both
// sides, the columns of one in another order, and are subscribed.
func startCompared(t *testing.T, rows int) *replica {
	t.Helper()
	r := startReplica(t, pgtest.Setting("courier.workers", "off"))
	r.onSource(`CREATE TABLE item (id int PRIMARY KEY, amount numeric, name text, changed timestamptz DEFAULT '2026-01-01 00:00 UTC')`)
	r.onTarget(`CREATE TABLE item (here_only int, name text, changed timestamptz, amount numeric, id int PRIMARY KEY)`)
	r.onBoth(`CREATE TABLE document (code text, part int, body text, weight float8, PRIMARY KEY (part, code));
		CREATE TABLE journal (a int, b int);
		CREATE TABLE counter (id int PRIMARY KEY, n int8); INSERT INTO counter VALUES (1, 0)`)
	fill := fmt.Sprintf(`INSERT INTO item (id, amount, name, changed)
			SELECT i, i * 0.5, 'item ' || i, '2026-01-01 00:00 UTC' FROM generate_series(0, %d) i;
		INSERT INTO document SELECT 'code-' || i, i %% 7, 'body ' || i, i / 3.0 FROM generate_series(0, %d) i`, rows-1, rows/10-1)
	for _, cluster := range []*pgtest.Cluster{r.source, r.target} {
		r.inLongStatement(cluster, fill)
		r.inLongStatement(cluster, "VACUUM ANALYZE item")
	}
	r.add("default", "item", "document", "counter")
	r.addKeyless("journal")
	r.subscribe("{default,log}", false)
	return r
}

// inLongStatement executes statements that may take minutes.
func (r *replica) inLongStatement(cluster *pgtest.Cluster, sql string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	conn, err := cluster.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	require.NoError(r.t, err)
}

// comparedTable is what courier compare --json says of a table.
type comparedTable struct {
	Table     string `json:"table"`
	Equal     bool   `json:"equal"`
	Rows      int64  `json:"rows_compared"`
	Missing   int64  `json:"missing"`
	Extra     int64  `json:"extra"`
	Different int64  `json:"different"`
	Unsettled int64  `json:"unsettled"`
	Resent    int64  `json:"resent"`
	NotShown  int64  `json:"keys_not_shown"`
	Keys      []struct {
		Key        map[string]string `json:"key"`
		Difference string            `json:"difference"`
	} `json:"keys"`
}

// compare runs courier compare and gives its exit code and its answer.
func (r *replica) compare(args ...string) (int, map[string]comparedTable) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, courierProgram(r.t), append([]string{"compare", "--json",
		"--database", r.source.DSN(appDatabase), "--subscription", subscription}, args...)...)
	cmd.Env = withoutPG()
	output, err := cmd.Output()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
		require.Equal(r.t, 1, code, "%s", exit.Stderr)
	} else {
		require.NoError(r.t, err)
	}
	var tables []comparedTable
	require.NoError(r.t, json.Unmarshal(output, &tables), "%s", output)
	byName := make(map[string]comparedTable)
	for _, table := range tables {
		byName[table.Table] = table
	}
	return code, byName
}

// Equal tables that are written to all the time are never said to differ; of
// three planted differences, each of another kind, exactly those are found; and a
// repair mends them while the load goes on.
func TestCompareUnderLoad(t *testing.T) {
	rows := 1000 * numberOf(t, "COURIER_TEST_COMPARE_THOUSANDS", 20)
	r := startCompared(t, rows)
	courier := r.startSidecar()
	r.wait()
	work := r.startLoad(time.Hour, false, "-c", "4", "-j", "2", "-R", "150", "-D", fmt.Sprintf("thousands=%d", rows/1000), "-f", "testdata/compare_load.sql")
	eventually(t, "the load to begin", func() bool { return r.sourceValue("SELECT n > 50 FROM counter") == "t" })

	for range numberOf(t, "COURIER_TEST_COMPARISONS", 20) {
		code, tables := r.compare()
		require.Equal(t, 0, code, "a false report: %+v", tables)
		require.GreaterOrEqual(t, tables["public.item"].Rows, int64(rows*9/10))
	}
	require.Equal(t, "t", r.sourceValue("SELECT bool_and(equal) FROM courier.compare('to_eu')"), "in the database")
	require.False(t, work.ended(), "the comparisons were not under load")

	r.onTarget("UPDATE item SET amount = amount + 1e-20 WHERE id = 1000; DELETE FROM item WHERE id = 0; INSERT INTO item (id) VALUES (-1)")
	r.onTarget("UPDATE document SET weight = weight + 1e-13 WHERE code = 'code-1000'")
	code, tables := r.compare()
	require.Equal(t, 1, code, "%+v", tables)
	item := tables["public.item"]
	found := make(map[string]string)
	for _, k := range item.Keys {
		found[k.Key["id"]] = k.Difference
	}
	require.Equal(t, map[string]string{"1000": "different", "0": "missing", "-1": "extra"}, found)
	require.Equal(t, []int64{1, 1, 1, 0}, []int64{item.Missing, item.Extra, item.Different, item.NotShown})
	require.Equal(t, int64(1), tables["public.document"].Different)
	require.Equal(t, map[string]string{"part": strconv.Itoa(1000 % 7), "code": "code-1000"}, tables["public.document"].Keys[0].Key)
	require.True(t, tables["public.counter"].Equal && tables["public.journal"].Equal)

	code, tables = r.compare("--repair", "--table", "item")
	require.Equal(t, 1, code)
	require.Equal(t, int64(3), tables["public.item"].Resent)
	require.Equal(t, "1", r.sourceValue("SELECT sum(resent) FROM courier.repair('to_eu')"), "what is left, in the database")
	r.wait()
	code, tables = r.compare()
	require.Equal(t, 0, code, "%+v", tables)
	require.False(t, work.ended(), "the repair was not under load")
	work.abort()
	r.wait()
	r.requireEqual("document", "journal", "counter")
	if rows <= 1000000 {
		r.requireEqual("item")
	}
	courier.stop()
}
