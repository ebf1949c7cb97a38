package health_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// Bounds of these tests; the machine may be busy with others.
const (
	interval = 200 * time.Millisecond
	deadline = 2 * time.Second
	patience = 60 * time.Second
)

// source is a source database, and a prober at work on it.
type source struct {
	*pgtest.Cluster
	t      *testing.T
	prober *health.Prober
	log    *lockedBuffer
}

func newSource(t *testing.T) *source {
	t.Helper()
	c := pgtest.Start(t, pgtest.Name("source"))
	c.Database(t, "source")
	c.Exec(t, "source", "CREATE EXTENSION pg_courier CASCADE")
	return &source{Cluster: c, t: t, log: new(lockedBuffer)}
}

// run starts the prober; it ends with the test.
func (s *source) run(change ...func(*health.Config)) {
	s.t.Helper()
	config := health.Config{DSN: s.DSN("source"), Interval: interval, Deadline: deadline,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&config)
	}
	s.prober = health.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.prober.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			s.t.Error("Run does not return")
		}
		if s.t.Failed() {
			s.t.Logf("log of the prober:\n%s", s.log)
		}
	})
}

func (s *source) node(name, dsn string) {
	s.t.Helper()
	s.Exec(s.t, "source", "SELECT courier.create_node($1::text, $2::text)", name, dsn)
}

// await waits until a node is in a state; channels tell of every change.
func (s *source) await(name string, want health.State) health.Status {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		status, changed := s.prober.Status(name)
		if status.State == want {
			return status
		}
		select {
		case <-changed:
		case <-timeout:
			require.FailNow(s.t, "wait for state", "node %s is not %s but %+v", name, want, status)
		}
	}
}

// probes waits until a node has been probed some times more.
func (s *source) probes(name string, count int) {
	s.t.Helper()
	last, _ := s.prober.Status(name)
	require.Eventually(s.t, func() bool {
		status, _ := s.prober.Status(name)
		if status.ProbedAt.After(last.ProbedAt) {
			last, count = status, count-1
		}
		return count <= 0
	}, patience, time.Millisecond, "probes of node %s", name)
}

// newLine does something after which a database has another line.
func (s *source) newLine(database string, do func()) {
	s.t.Helper()
	old := s.Value(s.t, "source", "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_courier probe' AND datname = '"+database+"'")
	do()
	s.Eventually(s.t, "source", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier probe' AND datname = '"+
		database+"' AND pid <> "+old, "1", patience)
	s.probes(database, 2)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestUpDownAndUpAgain(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	eu := pgtest.Start(t, pgtest.Name("eu"))
	s.Database(t, "us")
	s.node("eu", eu.DSN("postgres"))
	s.node("us", s.DSN("us"))
	s.run()

	up := s.await("eu", health.Up)
	s.await("us", health.Up)
	require.Positive(t, up.Latency)
	require.Less(t, up.ClockOffset.Abs(), time.Second)
	require.Equal(t, eu.Value(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000"),
		strings.Split(up.ServerVersion, ".")[0])
	require.Greater(t, up.ConnectionsLeft, 50)
	require.False(t, up.InRecovery || up.ReadOnly)
	require.Equal(t, "1", eu.Value(t, "postgres",
		"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier probe'"), "the trial has gone")
	s.Eventually(t, "source", `SELECT string_agg(concat_ws(' ', node_name, state, since IS NOT NULL, reason, latency > '0 s',
			server_version IS NOT NULL, in_recovery, read_only, clock_offset < '1 s', connections_left > 50,
			probed_at <= clock_timestamp(), next_probe_at > probed_at, subscriptions), E'\n' ORDER BY node_name)
		FROM courier.node_status`, "eu up t t t f f t t t t 0\nus up t t t f f t t t t 0", patience)

	// while one is down, and does not answer, the other is probed as before
	require.NoError(t, eu.Stop(pgtest.Immediate))
	stopped := time.Now()
	down := s.await("eu", health.Down)
	require.Less(t, time.Since(stopped), 15*time.Second)
	require.Contains(t, down.Reason, "See that the server runs")
	require.Equal(t, "08001", down.SQLState)
	s.probes("us", 5)
	us, _ := s.prober.Status("us")
	require.Equal(t, health.Up, us.State)
	s.Eventually(t, "source", "SELECT state || ' ' || sqlstate FROM courier.node_status WHERE node_name = 'eu'", "down 08001", patience)

	require.NoError(t, eu.Start(t.Context()))
	again := s.await("eu", health.Up)
	require.Empty(t, again.Reason)
	require.Empty(t, again.SQLState)
	require.True(t, again.Since.After(down.Since))
	require.Equal(t, 2, strings.Count(s.log.String(), `msg="node is up" node=eu`))
	require.Equal(t, 1, strings.Count(s.log.String(), `msg="node is down" node=eu`))
	require.Equal(t, 1, strings.Count(s.log.String(), `node=us`), "one line a change of state")

	// gone within a second, with its line and what was written down
	s.Exec(t, "source", "SELECT courier.drop_node('eu')")
	s.await("eu", health.Unknown)
	require.Len(t, s.prober.All(), 1)
	eu.Eventually(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier probe'", "0", patience)
	s.Eventually(t, "source", "SELECT string_agg(node_name, ',') FROM courier.node_state", "us", patience)
}

// A copy for reading is often read-only by default: it is shown, and no fault.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.Database(t, "eu")
	s.node("eu", s.DSN("eu"))
	s.run()
	s.await("eu", health.Up)
	s.Exec(t, "source", "ALTER DATABASE eu SET default_transaction_read_only = on")
	readOnly := func(want bool) func() bool {
		return func() bool {
			status, _ := s.prober.Status("eu")
			return status.ReadOnly == want && status.State == health.Up
		}
	}
	require.Eventually(t, readOnly(true), patience, 20*time.Millisecond)

	// lines made now are read-only themselves, and are made anew in the end
	s.newLine("eu", func() { s.prober.Suspect("eu") })
	s.Exec(t, "source", "ALTER DATABASE eu RESET default_transaction_read_only")
	require.Eventually(t, readOnly(false), patience, 20*time.Millisecond)
}

func TestConnectionsExhausted(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	eu := pgtest.Start(t, pgtest.Name("eu"), pgtest.Setting("max_connections", "20"))
	s.node("eu", eu.DSN("postgres"))
	s.run()
	require.Equal(t, 16, s.await("eu", health.Up).ConnectionsLeft, "of 20, 3 are reserved and 1 is ours")
	conns := make([]interface{ Close(context.Context) error }, 13)
	for i := range conns {
		conns[i] = eu.Connect(t, "postgres")
	}
	status := s.await("eu", health.Degraded)
	require.Equal(t, "53300", status.SQLState)
	require.Contains(t, status.Reason, "3 of 17 connections left")
	for _, conn := range conns {
		require.NoError(t, conn.Close(t.Context()))
	}
	s.await("eu", health.Up)
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	const planted = "planted secret"
	s := newSource(t)
	s.node("wrong", s.DSNAs("postgres", pgtest.PasswordRole, planted))
	s.node("right", s.DSNAs("postgres", pgtest.PasswordRole, pgtest.Password))
	s.node("nobody", s.DSNAs("nowhere", pgtest.PasswordRole, pgtest.Password))
	s.run()
	wrong := s.await("wrong", health.Down)
	require.Equal(t, "28P01", wrong.SQLState)
	require.Contains(t, wrong.Reason, "password authentication failed")
	require.Equal(t, "3D000", s.await("nobody", health.Down).SQLState)
	s.await("right", health.Up)

	// a changed definition counts from within a second, an old line or not
	s.Exec(t, "source", "ALTER USER MAPPING FOR PUBLIC SERVER courier_right OPTIONS (SET password '"+planted+"')")
	require.Equal(t, "28P01", s.await("right", health.Down).SQLState)
	s.Exec(t, "source", "ALTER USER MAPPING FOR PUBLIC SERVER courier_wrong OPTIONS (SET password '"+pgtest.Password+"')")
	s.await("wrong", health.Up)

	s.Eventually(t, "source", "SELECT count(*) FROM courier.node_state WHERE state = 'down'", "2", patience)
	seen := s.log.String() + fmt.Sprintf("%+v", s.prober.All()) + fmt.Sprint(s.Query(t, "source", "SELECT * FROM courier.node_state"))
	require.NotContains(t, seen, planted)
	require.NotContains(t, seen, pgtest.Password)
}

// A shipper that can't make a connection is believed, though the line is open.
func TestSuspect(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.node("eu", s.DSNAs("postgres", pgtest.PasswordRole, pgtest.Password))
	s.run()
	s.await("eu", health.Up)
	s.Exec(t, "postgres", "ALTER ROLE "+pgtest.PasswordRole+" NOLOGIN")
	s.probes("eu", 3)
	status, changed := s.prober.Status("eu")
	require.Equal(t, health.Up, status.State)
	s.prober.Suspect("eu")
	<-changed
	status, _ = s.prober.Status("eu")
	require.Equal(t, health.Down, status.State)
	require.Equal(t, "28000", status.SQLState)
	s.prober.Suspect("nowhere")
}

func TestDiskFullIsRememberedForAMinute(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ahead time.Duration
	s := newSource(t)
	s.Database(t, "eu")
	s.node("eu", s.DSN("eu"))
	s.run(func(c *health.Config) {
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(ahead)
		}
	})
	s.await("eu", health.Up)
	s.prober.Report("eu", "23505")
	s.prober.Report("nowhere", "53100")
	s.await("eu", health.Up)
	s.prober.Report("eu", "53100")
	status, _ := s.prober.Status("eu")
	require.Equal(t, health.Degraded, status.State)
	s.probes("eu", 3)
	s.await("eu", health.Degraded)
	mu.Lock()
	ahead = time.Minute
	mu.Unlock()
	s.await("eu", health.Up)
}

func TestSourceRestarted(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	eu := pgtest.Start(t, pgtest.Name("eu"))
	s.node("eu", eu.DSN("postgres"))
	s.run()
	s.await("eu", health.Up)
	require.NoError(t, s.Restart(t.Context(), pgtest.Immediate))
	status, changed := s.prober.Status("eu")
	require.Equal(t, health.Up, status.State)
	s.probes("eu", 2)
	select {
	case <-changed:
		require.Fail(t, "a source that is down says nothing about its nodes")
	default:
	}
}

// An error on a line is not the last word: a new connection is.
func TestLostLine(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.Database(t, "eu")
	s.node("eu", s.DSN("eu"))
	s.run()
	s.await("eu", health.Up)
	_, changed := s.prober.Status("eu")
	s.newLine("eu", func() {
		s.Exec(t, "source", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'eu'")
	})
	select {
	case <-changed:
		require.Fail(t, "the node's state has changed")
	default:
	}
}

// A role that is no superuser gets no further than dblink would let it.
func TestAdministrator(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.Exec(t, "source", "CREATE ROLE administrator LOGIN IN ROLE "+pgtest.Superuser)
	s.node("password", s.DSNAs("postgres", pgtest.PasswordRole, pgtest.Password))
	s.node("trust", s.DSN("postgres"))
	s.node("trust_all_the_same", s.DSNAs("postgres", pgtest.Superuser, "any"))
	s.Exec(t, "source", `CREATE SERVER theirs FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '127.0.0.1');
		CREATE ROLE owner SUPERUSER; ALTER SERVER theirs OWNER TO owner;
		SELECT courier.create_node('theirs', server => 'theirs')`)
	s.run(func(c *health.Config) {
		c.DSN = strings.Replace(s.SocketDSN("source"), "user="+pgtest.Superuser, "user=administrator", 1)
	})
	s.await("password", health.Up)
	require.Equal(t, "2F003", s.await("trust", health.Down).SQLState)
	require.Equal(t, "2F003", s.await("trust_all_the_same", health.Down).SQLState)
	require.Equal(t, "42501", s.await("theirs", health.Down).SQLState)
	s.Eventually(t, "source", "SELECT string_agg(state, ' ' ORDER BY node_name) FROM courier.node_status", "up down down down", patience)
}

// What PUBLIC may see of a node names no host.
func TestReasonsAreForMonitors(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.node("eu", "host=127.0.0.1 port=1 dbname=x")
	s.run()
	require.Contains(t, s.await("eu", health.Down).Reason, "127.0.0.1")
	s.Exec(t, "source", "CREATE ROLE watcher; CREATE ROLE monitor IN ROLE pg_monitor")
	for role, want := range map[string]string{"watcher": "down 08001", "monitor": "down 08001 t"} {
		s.Eventually(t, "source", "SET ROLE "+role+`; SELECT concat_ws(' ', state, sqlstate, reason LIKE '%127.0.0.1%')
			FROM courier.node_status`, want, patience)
	}
	require.Equal(t, "f", s.Value(t, "source", "SELECT has_table_privilege('watcher', 'courier.node_state', 'select')"))
	// a state of a time without a prober is not shown as that of today
	s.Exec(t, "source", "INSERT INTO courier.node (node_name, server_name, server_owned) VALUES ('late', 'none', false)")
	require.Equal(t, "42704", s.await("late", health.Down).SQLState)
}
