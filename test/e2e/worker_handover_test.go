package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// FAULTS: sidecar and worker: one ships. Under load each takes over from the
// other, again and again, also from one that was killed, without a long gap; the
// history, which has no key, would show what was applied twice.
func TestHandover(t *testing.T) {
	t.Parallel()
	r := startBench(t, pgtest.Preload(true))
	r.wait()
	require.Equal(t, "worker", r.status()["shipper"])
	poller := r.startPoller(false)
	work := r.startLoad(loadTime(t)+4*time.Second, false, clients...)
	rounds := 0
	for ; rounds < 2 || !work.ended(); rounds++ {
		start := time.Now()
		courier := r.startSidecar()
		eventually(t, "the sidecar to take over", func() bool {
			return strings.Contains(courier.log.String(), "subscription is streaming")
		})
		toSidecar := time.Since(start)
		require.Equal(t, "0", r.workers("ship worker"), "workers beside the sidecar")

		start = time.Now()
		if rounds%2 == 0 {
			courier.kill9()
		} else {
			courier.stop()
		}
		r.awaitWorkers("ship worker", "1")
		r.awaitStatus("shipper = 'worker' AND state = 'streaming'")
		t.Logf("the sidecar took over after %s, the worker after %s",
			toSidecar.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	}
	work.wait()
	t.Logf("%d handovers", 2*rounds)
	r.wait()
	poller.finish()
	r.requireBenchEqual()
}

// A sidecar finds the work taken and stands by; as soon as the worker has done
// with its batch it ships. A sidecar that is stopped in the debugger keeps nobody
// from shipping for ever.
func TestHandoverWaitsForBatch(t *testing.T) {
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'; INSERT INTO journal VALUES (1, 'once')")
	r.awaitBlocked()
	courier := r.startSidecar()
	eventually(t, "the sidecar to stand by", func() bool {
		return strings.Contains(courier.log.String(), "subscription is standby")
	})
	require.Equal(t, "1", r.workers("ship worker"))
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	eventually(t, "the sidecar to take over", func() bool {
		return strings.Contains(courier.log.String(), "subscription is streaming")
	})
	r.wait()
	r.requireEqual("item", "journal")
	courier.stop()
	r.awaitWorkers("ship worker", "1")
}

// A sidecar that was stopped with its wish keeps nobody from shipping for ever.
func TestHandoverSilentWish(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	// a session like a sidecar's that says nothing any more
	silent := r.source.Connect(t, appDatabase)
	_, err := silent.Exec(t.Context(), "SET application_name = 'pg_courier control'")
	require.NoError(t, err)
	_, err = silent.Exec(t.Context(), "SELECT courier.wish_lease(subscription_id) FROM courier.subscription")
	require.NoError(t, err)
	r.awaitWorkers("ship worker", "0")
	r.awaitWorkers("ship worker", "1")
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.wait()
	r.requireEqual("item")
}

// FAULTS: a sidecar that hangs, stopped in a debugger say: its leases are taken from
// it after a while. When it goes on it is the one to ship again.
func TestHandoverSilentSidecar(t *testing.T) {
	t.Parallel()
	r := startWorkers(t)
	courier := r.startSidecar()
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.awaitStatus("shipper = 'sidecar' AND state = 'streaming'")
	require.NoError(t, courier.cmd.Process.Signal(syscall.SIGSTOP))
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.onSource("INSERT INTO journal VALUES (1, 'once')")
	r.wait()
	require.Equal(t, "worker", r.status()["shipper"])
	r.requireEqual("item", "journal")
	require.NoError(t, courier.cmd.Process.Signal(syscall.SIGCONT))
	r.awaitWorkers("ship worker", "0")
	r.onSource("INSERT INTO journal VALUES (2, 'once')")
	r.wait()
	require.Equal(t, "sidecar", r.status()["shipper"])
	r.requireEqual("item", "journal")
	courier.stop()
}
