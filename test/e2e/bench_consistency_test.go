package e2e

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// clients is how pgbench is run.
var clients = []string{"-c", "8", "-j", "2"}

// A target under load only ever shows whole transactions, and at the end it
// equals the source.
func TestBenchConsistency(t *testing.T) {
	r := startBench(t)
	courier := r.startSidecar()
	r.wait() // until its copy is done a table has some of its rows
	poller := r.startPoller(false)
	r.startLoad(loadTime(t), false, clients...).wait()
	r.wait()
	poller.finish()
	r.requireBenchEqual()
	courier.stop()
}

// FAULTS: kill -9 of the sidecar at any step; of the shipping backend; here
// also of the backend that applies on the target.
func TestBenchKilledShippers(t *testing.T) {
	r := startBench(t)
	random := randomSource(randomSeed(t), 0)
	courier := r.startSidecar()
	r.wait() // until its copy is done a table has some of its rows

	poller := r.startPoller(false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	terminated := make(chan int)
	killer := randomSource(random.Uint64(), 1)
	go func() {
		n := 0
		for wait(ctx, between(killer, 100*time.Millisecond, 900*time.Millisecond)) {
			cluster := r.source
			if killer.IntN(3) == 0 {
				cluster = r.target
			}
			n += terminateShipper(ctx, cluster)
		}
		terminated <- n
	}()

	work := r.startLoad(loadTime(t), false, clients...)
	kills := 0
	for !work.ended() {
		wait(ctx, between(random, 500*time.Millisecond, 1500*time.Millisecond))
		courier.kill9()
		courier = r.startSidecar()
		kills++
	}
	cancel()
	n := <-terminated
	work.wait()
	t.Logf("%d sidecars killed, %d backends terminated", kills, n)
	require.Greater(t, kills, 3)
	require.Positive(t, n)

	r.wait()
	poller.finish()
	r.requireBenchEqual()
	courier.stop()
}

// terminateShipper terminates one random backend that ships or applies, and
// counts it. An error says that there was none to ask.
func terminateShipper(ctx context.Context, cluster *pgtest.Cluster) int {
	value, err := onlyValue(ctx, cluster, `SELECT coalesce((SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
		WHERE application_name LIKE 'pg_courier%' AND datname = current_database() AND pid <> pg_backend_pid()
		ORDER BY random() LIMIT 1), 'none')`)
	if err != nil || value != "true" {
		return 0
	}
	return 1
}

// restarts is how often a server is restarted under load, at least.
const restarts = 10

// restartUnderLoad stops a server at once and starts it, again and again, while
// pgbench runs on the source with the arguments.
func (r *replica) restartUnderLoad(server *pgtest.Cluster, random *rand.Rand, args ...string) {
	r.t.Helper()
	begun := time.Now()
	work := r.startLoad(loadTime(r.t)+time.Minute, server == r.source, args...)
	for n := 0; n < restarts || time.Since(begun) < loadTime(r.t); n++ {
		wait(r.t.Context(), between(random, 200*time.Millisecond, time.Second))
		require.False(r.t, work.ended(), "the load was over after %d restarts", n)
		require.NoError(r.t, server.Restart(r.t.Context(), pgtest.Immediate))
	}
	work.abort()
}

// FAULTS: target killed before, during, after COMMIT.
func TestBenchTargetCrash(t *testing.T) {
	r := startBench(t)
	random := randomSource(randomSeed(t), 0)
	courier := r.startSidecar()
	r.wait()
	poller := r.startPoller(true)
	r.restartUnderLoad(r.target, random, clients...)
	r.wait()
	poller.finish()
	r.requireBenchEqual()
	courier.stop()
}

// FAULTS: source crash (immediate stop). Half of the load rolls back or commits
// without waiting for the flush, so a crash takes transactions with it, and the
// ids they had are used again.
func TestBenchSourceCrash(t *testing.T) {
	r := startBench(t)
	random := randomSource(randomSeed(t), 0)
	courier := r.startSidecar()
	r.wait()
	poller := r.startPoller(false)
	r.restartUnderLoad(r.source, random, append(clients, "-f", "testdata/tpcb_mixed.sql", "-b", "tpcb-like")...)
	r.wait()
	poller.finish()
	r.requireBenchEqual()
	courier.stop()
}
