package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Bounds of one sidecar with 200 subscriptions. At idle 5 % of a core are
// promised; twice as much is what a shared machine may make of it.
const (
	manyResident = 300 << 20
	manyIdle     = 0.10
	manyDown     = 3
)

// subscriptions is COURIER_TEST_SUBSCRIPTIONS, or fewer than are promised.
func subscriptions(t *testing.T) int {
	t.Helper()
	n := numberOf(t, "COURIER_TEST_SUBSCRIPTIONS", 40)
	require.Greater(t, n, manyDown, "COURIER_TEST_SUBSCRIPTIONS")
	return n
}

// fan is a source with many nodes, n1 and so on, each a database of that name
// on one target server.
type fan struct {
	*replica
	n     int
	beats int64 // the last one
}

// startFan makes the databases, nodes and subscriptions.
func startFan(t *testing.T, n int) *fan {
	t.Helper()
	f := &fan{n: n, replica: &replica{t: t,
		source: pgtest.Start(t, pgtest.Name("source"), pgtest.Setting("max_connections", strconv.Itoa(100+n))),
		target: pgtest.Start(t, pgtest.Name("target"), pgtest.Setting("max_connections", strconv.Itoa(100+2*n)))}}
	f.source.Database(t, appDatabase)
	f.onSource("CREATE EXTENSION pg_courier CASCADE")
	f.onSource("SELECT courier.set_local_node('here')")
	f.onSource(beatSource)
	f.add("default", "beat")
	f.target.Database(t, "model")
	f.target.Exec(t, "model", beatTarget)

	target, source := f.target.Connect(t, "postgres"), f.source.Connect(t, appDatabase)
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		_, err := target.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE model")
		require.NoError(t, err)
		_, err = source.Exec(t.Context(), "SELECT courier.create_node($1, dsn => $2)", name, f.target.DSN(name))
		require.NoError(t, err)
		_, err = source.Exec(t.Context(), "SELECT courier.create_subscription('to_' || $1, $1, copy_data => false)", name)
		require.NoError(t, err)
	}
	return f
}

// waitAll waits until nothing is pending for all but some subscriptions.
func (f *fan) waitAll(down int) {
	f.t.Helper()
	f.source.Eventually(f.t, appDatabase, `SELECT count(*) FROM courier.subscription_status
		WHERE state = 'streaming' AND pending_changes = 0`, strconv.Itoa(f.n-down), 2*patience)
}

// lag writes a beat a second for a while and gives the 99th percentile of the
// time they took to the nodes from first on.
func (f *fan) lag(first int) time.Duration {
	f.t.Helper()
	from := f.beats + 1
	for end := time.Now().Add(faultTime(f.t)); time.Now().Before(end); wait(f.t.Context(), time.Second) {
		f.beats++
		f.onSource(beatInsert, f.beats)
	}
	f.waitAll(first - 1)
	var all []time.Duration
	for i := first; i <= f.n; i++ {
		all = append(all, f.lags(fmt.Sprintf("n%d", i), from)...)
	}
	require.Len(f.t, all, (f.n-first+1)*int(f.beats-from+1), "every beat arrived on every node")
	slices.Sort(all)
	return all[(len(all)*99-1)/100]
}

func (f *fan) lags(database string, from int64) []time.Duration {
	f.t.Helper()
	conn, err := f.target.Open(context.Background(), database)
	require.NoError(f.t, err)
	defer conn.Close(context.Background())
	rows, _ := conn.Query(context.Background(), "SELECT arrived - at FROM beat WHERE id >= $1", from)
	lags, err := pgx.CollectRows(rows, pgx.RowTo[time.Duration])
	require.NoError(f.t, err)
	return lags
}

// One sidecar serves many subscriptions in bounded memory, does next to nothing
// when there is nothing to do, and nodes that are down are only their own
// subscriptions' matter.
func TestManySubscriptions(t *testing.T) {
	f := startFan(t, subscriptions(t))
	courier := f.startSidecar()
	f.lag(1) // sessions are opened, courier_target is made
	calm := f.lag(1)

	idle := 10 * time.Second
	if f.n >= 200 {
		idle = 2 * idle
	}
	before, begun := courier.cpuTime(), time.Now()
	wait(t.Context(), idle)
	used := float64(courier.cpuTime()-before) / float64(time.Since(begun))
	resident, peak := courier.memory("VmRSS"), courier.memory("VmHWM")
	t.Logf("%d subscriptions: %d MB resident, %d MB at most, %.1f %% of a core at idle, p99 lag %s",
		f.n, resident>>20, peak>>20, 100*used, calm.Round(time.Millisecond))
	require.Less(t, peak, int64(manyResident))
	require.Less(t, used, manyIdle)

	f.setDown(manyDown, 1)
	f.target.Exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ~ '^n[123]$'")
	f.onSource(beatInsert, f.beats+1)
	f.beats++
	f.source.Eventually(t, appDatabase, "SELECT count(*) FROM courier.subscription_status WHERE state = 'retrying'",
		strconv.Itoa(manyDown), patience)
	disturbed := f.lag(manyDown + 1)
	t.Logf("%d nodes down: p99 lag of the others %s", manyDown, disturbed.Round(time.Millisecond))
	require.LessOrEqual(t, disturbed, 2*calm+lagFloor)

	f.setDown(manyDown, f.target.Port)
	f.waitAll(0)
	for i := range f.n {
		require.Equal(t, strconv.FormatInt(f.beats, 10), f.target.Value(t, fmt.Sprintf("n%d", i+1), "SELECT count(*) FROM beat"))
	}
	courier.stop()
}

// setDown changes the port of the first nodes.
func (f *fan) setDown(nodes, port int) {
	f.t.Helper()
	for i := range nodes {
		f.onSource(fmt.Sprintf("ALTER SERVER courier_n%d OPTIONS (SET port '%d')", i+1, port))
	}
}

// clockTick is the unit of times in /proc/PID/stat, which Linux fixes at 100 a
// second for programs.
const clockTick = 10 * time.Millisecond

// cpuTime is what the process has used of processors.
func (s *sidecar) cpuTime() time.Duration {
	s.t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	// behind the command, which may hold anything: state is field 3, utime 14
	fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	user, err := strconv.ParseInt(fields[14-3], 10, 64)
	require.NoError(s.t, err)
	system, err := strconv.ParseInt(fields[15-3], 10, 64)
	require.NoError(s.t, err)
	return time.Duration(user+system) * clockTick
}

// memory is a size in bytes from /proc/PID/status.
func (s *sidecar) memory(name string) int64 {
	s.t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(s.t, err)
			return kilobytes << 10
		}
	}
	s.t.Fatalf("%s is not in /proc/PID/status", name)
	return 0
}
