package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bounds of stopping. The first is promised; a second signal abandons at once,
// which on a loaded machine is not nothing.
const (
	drainBound   = 5 * time.Second
	abandonBound = time.Second
)

// signal sends SIGTERM.
func (s *sidecar) signal() {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
}

// requireEnd waits for the end of the process.
func (s *sidecar) requireEnd(within time.Duration) {
	s.t.Helper()
	begun := time.Now()
	select {
	case <-s.done:
	case <-time.After(within):
		s.t.Fatalf("the sidecar still runs after %s", within)
	}
	s.t.Logf("ended after %s with %s", time.Since(begun).Round(time.Millisecond), s.cmd.ProcessState)
}

// requireDrained sends SIGTERM, after which it must end in order and in time.
func (s *sidecar) requireDrained() {
	s.t.Helper()
	s.signal()
	s.requireEnd(drainBound)
	require.Zero(s.t, s.cmd.ProcessState.ExitCode(), s.log.tail(2000))
}

// SIGTERM during load ends the sidecar within seconds, again and again, and
// nothing is lost or repeated.
func TestTerminateUnderLoad(t *testing.T) {
	r := startBench(t)
	courier := r.startSidecar()
	r.wait() // the copy
	work := r.startLoad(loadTime(t)/2, false, clients...)
	for n := 0; n < 4 || !work.ended(); n++ {
		before := r.targetValue("SELECT count(*) FROM pgbench_history")
		eventually(t, "the sidecar to ship", func() bool {
			return work.ended() || r.targetValue("SELECT count(*) FROM pgbench_history") != before
		})
		courier.requireDrained()
		courier = r.startSidecar()
	}
	work.wait()
	r.wait()
	r.requireBenchEqual()
	courier.requireDrained()
}

// holdTarget lets the next batch wait for a lock, and returns when one does.
func (r *replica) holdTarget(number int64) (release func()) {
	r.t.Helper()
	conn := r.target.Connect(r.t, appDatabase)
	_, err := conn.Exec(r.t.Context(), "BEGIN; LOCK TABLE item")
	require.NoError(r.t, err)
	r.onSource("SELECT work($1)", number)
	r.target.Eventually(r.t, appDatabase, `SELECT count(*) > 0 FROM pg_stat_activity
		WHERE application_name LIKE 'pg_courier%' AND wait_event_type = 'Lock'`, "t", patience)
	return func() {
		r.t.Helper()
		_, err := conn.Exec(r.t.Context(), "COMMIT")
		require.NoError(r.t, err)
	}
}

// A batch that takes longer than the sidecar may wait is abandoned. Whether it is
// applied afterwards or not, it is applied once.
func TestTerminateWhileTargetHangs(t *testing.T) {
	r := startWork(t)
	courier := r.startSidecar()
	release := r.holdTarget(1)
	courier.requireDrained()
	release()

	courier = r.startSidecar()
	r.requireWorkEqual()
	release = r.holdTarget(2)
	courier.signal()
	wait(t.Context(), 300*time.Millisecond) // two signals at once are one
	if !courier.ended() {
		courier.signal()
	}
	courier.requireEnd(abandonBound)
	release()

	courier = r.startSidecar()
	r.onSource("SELECT work(3)")
	r.requireWorkEqual()
	courier.requireDrained()
}
