package e2e

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Promised times of a takeover, and what a loaded machine may add: processes
// that have to be scheduled, a batch of the dead one that has to end.
const (
	takeoverFromDead   = 2 * time.Second
	takeoverFromSilent = 10 * time.Second
	takeoverNoise      = 1500 * time.Millisecond
)

// startWork is startReplica with the tables of work() and a beat.
func startWork(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth(faultTables)
	r.onSource(workFunction)
	r.onSource(beatSource)
	r.onTarget(beatTarget)
	r.add("default", "item", "beat")
	r.addKeyless("movement")
	r.subscribe("{default,log}", false)
	return r
}

// requireWorkEqual waits and compares.
func (r *replica) requireWorkEqual() {
	r.t.Helper()
	r.wait()
	r.requireEqual("item", "movement", "beat")
}

// shift is two sidecars for one database. They are told apart on the server by
// how they connect.
type shift struct {
	*replica
	tcp, socket *sidecar
	paces       []*pace
}

func (s *shift) startTCP() { s.tcp = s.startSidecar() }
func (s *shift) startSocket() {
	s.socket = s.startSidecarFor([]string{s.source.SocketDSN(appDatabase)})
}

// startShift starts two sidecars and load, and waits until one of them ships.
func startShift(t *testing.T) *shift {
	t.Helper()
	s := &shift{replica: startWork(t)}
	s.startTCP()
	s.startSocket()
	s.onSource("INSERT INTO beat (id) VALUES (0)")
	s.wait()
	s.paces = []*pace{
		s.startPace(appDatabase, 10*time.Millisecond, "SELECT work($1)", 1),
		s.startPace(appDatabase, 20*time.Millisecond, beatInsert, 1),
	}
	return s
}

// replace starts another sidecar in the place of one.
func (s *shift) replace(dead *sidecar) {
	if dead == s.tcp {
		s.startTCP()
	} else {
		s.startSocket()
	}
}

// active is the sidecar that holds the subscription's lease, and the other one.
func (s *shift) active() (active, other *sidecar) {
	s.t.Helper()
	var holder string
	eventually(s.t, "a sidecar to take the lease", func() bool {
		holder = s.sourceValue(`SELECT coalesce(max(CASE WHEN a.client_addr IS NULL THEN 'socket' ELSE 'tcp' END), '')
			FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			JOIN courier.subscription s ON s.subscription_id = l.objid::bigint
			WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = 'courier.subscription'::regclass
			AND a.datname = current_database()`)
		return holder != ""
	})
	if holder == "tcp" {
		return s.tcp, s.socket
	}
	return s.socket, s.tcp
}

// requireArrival waits for a beat that was written after a moment, and says how
// long after it the first one arrived.
func (s *shift) requireArrival(since time.Time, within time.Duration) {
	s.t.Helper()
	sql := fmt.Sprintf(`SELECT coalesce((extract(epoch FROM min(arrived)) * 1000000)::bigint, 0) FROM beat
		WHERE at > to_timestamp(%d / 1e6)`, since.UnixMicro())
	var arrived int64
	eventually(s.t, "a beat to arrive", func() bool {
		var err error
		arrived, err = strconv.ParseInt(s.targetValue(sql), 10, 64)
		require.NoError(s.t, err)
		return arrived > 0
	})
	took := time.UnixMicro(arrived).Sub(since)
	s.t.Logf("shipping went on after %s", took.Round(time.Millisecond))
	require.LessOrEqual(s.t, took, within+takeoverNoise)
}

// FAULTS: two sidecars, kill -9: one ships, the other waits, and takes over
// within two seconds of the first one's death.
func TestStandbyTakesOverFromDead(t *testing.T) {
	t.Parallel()
	s := startShift(t)
	for range 3 {
		active, standby := s.active()
		require.False(t, standby.ended())
		died := time.Now()
		active.kill9()
		s.requireArrival(died, takeoverFromDead)
		s.replace(active)
	}
	s.settle()
}

// FAULTS: two sidecars, half-open: the first is there and does nothing, as when
// its machine were cut off. The other takes over within ten seconds. When the
// first wakes up in the middle of what it did, it does no harm and stands by.
func TestStandbyTakesOverFromSilent(t *testing.T) {
	t.Parallel()
	s := startShift(t)
	active, standby := s.active()
	silent := time.Now()
	require.NoError(t, active.cmd.Process.Signal(syscall.SIGSTOP))
	s.requireArrival(silent, takeoverFromSilent)

	require.NoError(t, active.cmd.Process.Signal(syscall.SIGCONT))
	wait(t.Context(), 2*time.Second) // both have work to do
	now, _ := s.active()
	require.Same(t, standby, now, "the lease stays where it is")
	require.False(t, active.ended(), "the first one stands by")

	// and it takes over in its turn
	died := time.Now()
	standby.kill9()
	s.requireArrival(died, takeoverFromDead)
	s.replace(standby)
	s.settle()
}

// settle compares, and ends both in order.
func (s *shift) settle() {
	s.t.Helper()
	for _, p := range s.paces {
		p.stop()
	}
	s.requireWorkEqual()
	s.tcp.stop()
	s.socket.stop()
}
