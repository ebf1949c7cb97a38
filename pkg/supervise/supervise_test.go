package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

const (
	waitLimit = 30 * time.Second
	tick      = 5 * time.Millisecond
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// observed counts what an observer is told.
type observed struct {
	mu      sync.Mutex
	applied ship.Applied
	retried int
}

func (o *observed) Applied(_, _ string, a ship.Applied) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.applied.Inserted += a.Inserted
	o.applied.Shipped += a.Shipped
}

func (o *observed) Retried(string, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retried++
}

// runner is a supervisor at work for one database.
type runner struct {
	*Supervisor
	t      *testing.T
	stop   func()
	seen   observed
	output bytes.Buffer // complete after stop
}

func startRunner(t *testing.T, dsn string, change func(*Config)) *runner {
	t.Helper()
	r := &runner{t: t}
	config := Config{Databases: []Database{{Name: "shop", DSN: dsn}}, Observer: &r.seen,
		Log: slog.New(slog.NewTextHandler(&r.output, nil))}
	if change != nil {
		change(&config)
	}
	r.Supervisor = New(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of the supervisor:\n%s", r.output.String())
		}
	})
	return r
}

// awaitDatabase waits for a state of the database.
func (r *runner) awaitDatabase(state string) DatabaseState {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.States()[0].State == state }, waitLimit, tick,
		"the database should be %s", state)
	return r.States()[0]
}

// awaitSubscription waits for a state of a subscription, "" if it is to be gone.
func (r *runner) awaitSubscription(name, state string) {
	r.t.Helper()
	last := ""
	require.Eventually(r.t, func() bool {
		all := r.States()[0].Subscriptions
		i := slices.IndexFunc(all, func(s SubscriptionState) bool { return s.Name == name })
		if last = ""; i >= 0 {
			last = all[i].State
		}
		return last == state
	}, waitLimit, tick, "subscription %s should be %q", name, state)
}

// pair makes a source and a target database with a table t.
func pair(t *testing.T, cluster *pgtest.Cluster) (source, target string) {
	t.Helper()
	source, target = "source", "target"
	for _, database := range []string{source, target} {
		cluster.Database(t, database)
		cluster.Exec(t, database, "CREATE TABLE public.t (id int PRIMARY KEY, v text)")
	}
	return source, target
}

// extend creates the extension in the source, and a node for the target.
func extend(t *testing.T, cluster *pgtest.Cluster, source, target string) {
	t.Helper()
	cluster.Exec(t, source, "CREATE EXTENSION pg_courier CASCADE")
	cluster.Query(t, source, "SELECT courier.set_local_node('here')")
	cluster.Query(t, source, "SELECT courier.create_node('there', '"+cluster.SocketDSN(target)+"')")
	cluster.Query(t, source, "SELECT courier.replication_set_add_table('default', 'public.t')")
}

func subscribe(t *testing.T, cluster *pgtest.Cluster, source, name string) {
	t.Helper()
	cluster.Query(t, source, "SELECT courier.create_subscription('"+name+"', 'there', copy_data => false)")
}

// TestWorkIsFound: the database, its extension, subscriptions come and go while
// the supervisor runs.
func TestWorkIsFound(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	source, target := pair(t, cluster)
	r := startRunner(t, cluster.SocketDSN(source), nil)

	missing := r.awaitDatabase("missing")
	require.Contains(t, missing.Hint, "CREATE EXTENSION")
	extend(t, cluster, source, target)
	r.awaitDatabase("ready")

	subscribe(t, cluster, source, "s")
	cluster.Exec(t, source, "INSERT INTO t VALUES (1, 'one')")
	cluster.Eventually(t, target, "SELECT count(*) FROM t", "1", waitLimit)
	r.awaitSubscription("s", "streaming")

	cluster.Query(t, source, "SELECT courier.alter_subscription_disable('s')")
	r.awaitSubscription("s", "")
	cluster.Exec(t, source, "INSERT INTO t VALUES (2, 'two')")
	cluster.Query(t, source, "SELECT courier.alter_subscription_enable('s')")
	cluster.Eventually(t, target, "SELECT count(*) FROM t", "2", waitLimit)

	cluster.Query(t, source, "SELECT courier.drop_subscription('s')")
	r.awaitSubscription("s", "")
	cluster.Exec(t, source, "DROP EXTENSION pg_courier")
	r.awaitDatabase("missing")

	require.NoError(t, cluster.Stop(pgtest.Fast))
	r.awaitDatabase("down")
	require.NoError(t, cluster.Start(t.Context()))
	r.awaitDatabase("missing")
	r.stop()
	require.Equal(t, int64(2), r.seen.applied.Inserted)
}

// TestBacklogStreams: a subscription that is behind streams before it has caught up.
func TestBacklogStreams(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	source, target := pair(t, cluster)
	extend(t, cluster, source, target)
	cluster.Query(t, source, "SELECT courier.create_subscription('s', 'there', copy_data => false, options => '{\"batch_rows\": 1}')")
	cluster.Exec(t, source, "INSERT INTO t VALUES (1, 'first')")
	cluster.Exec(t, source, "INSERT INTO t VALUES (2, 'has to wait')")
	holder := cluster.Connect(t, target)
	_, err := holder.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (2, 'in the way')")
	require.NoError(t, err)

	r := startRunner(t, cluster.SocketDSN(source), nil)
	cluster.Eventually(t, target, "SELECT count(*) FROM t", "1", waitLimit)
	r.awaitSubscription("s", "streaming")
	_, err = holder.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	cluster.Eventually(t, target, "SELECT count(*) FROM t", "2", waitLimit)
}

// TestVersions: another release of the extension is not worked with.
func TestVersions(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	source, target := pair(t, cluster)
	extend(t, cluster, source, target)
	r := startRunner(t, cluster.SocketDSN(source), func(c *Config) { c.Version = "99.1.0" })
	state := r.awaitDatabase("incompatible")
	require.Contains(t, state.Error, "99.1.0")
	require.Contains(t, state.Hint, "ALTER EXTENSION")
}

// TestFewConnections: more subscriptions than sessions take turns.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	source, _ := pair(t, cluster)
	const subscriptions = 7
	extend(t, cluster, source, source)
	for i := range subscriptions {
		name := string(rune('a' + i))
		database := "target_" + name
		cluster.Database(t, database)
		cluster.Exec(t, database, "CREATE TABLE public.t (id int PRIMARY KEY, v text)")
		cluster.Query(t, source, "SELECT courier.create_node('"+name+"', '"+cluster.SocketDSN(database)+"')")
		cluster.Query(t, source, "SELECT courier.create_subscription('"+name+"', '"+name+"', copy_data => false)")
	}
	startRunner(t, cluster.SocketDSN(source), func(c *Config) { c.Connections = 2 })
	for round := range 3 {
		cluster.Exec(t, source, "INSERT INTO t SELECT max(id) + 1, 'x' FROM (SELECT id FROM t UNION SELECT 0) AS u (id)")
		for i := range subscriptions {
			cluster.Eventually(t, "target_"+string(rune('a'+i)), "SELECT count(*) FROM t", string(rune('1'+round)), waitLimit)
		}
		require.LessOrEqual(t, cluster.Value(t, source, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'pg_courier'`), "2")
	}
}

// TestLease: one supervisor ships, the other stands by and takes over; a lease
// whose holder has fallen silent is taken away.
func TestLease(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	source, target := pair(t, cluster)
	extend(t, cluster, source, target)
	subscribe(t, cluster, source, "s")
	first := startRunner(t, cluster.SocketDSN(source), nil)
	first.awaitSubscription("s", "streaming")
	second := startRunner(t, cluster.SocketDSN(source), nil)
	second.awaitSubscription("s", "standby")

	first.stop()
	stopped := time.Now()
	second.awaitSubscription("s", "streaming")
	require.Less(t, time.Since(stopped), waitLimit)
	second.stop()

	// A holder that says nothing: its session lives, as at the end of a
	// half-open connection.
	silent := cluster.Connect(t, source)
	_, err := silent.Exec(t.Context(), "SET application_name = 'pg_courier control'")
	require.NoError(t, err)
	require.Eventually(t, func() bool { // once the session of the second has ended
		var taken bool
		err := silent.QueryRow(t.Context(), "SELECT courier.take_lease(subscription_id, '1 h') FROM courier.subscription").Scan(&taken)
		require.NoError(t, err)
		return taken
	}, waitLimit, 5*time.Millisecond)
	third := startRunner(t, cluster.SocketDSN(source), nil)
	third.awaitSubscription("s", "standby")
	third.awaitSubscription("s", "streaming")
	cluster.Exec(t, source, "INSERT INTO t VALUES (1, 'one')")
	cluster.Eventually(t, target, "SELECT count(*) FROM t", "1", waitLimit)
}
