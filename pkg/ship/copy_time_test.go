package ship_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// impatient are limits that the copy here takes longer than, by design.
var impatient = dblink.Limits{Statement: 2 * time.Second, IdleInTransaction: time.Second, Idle: time.Second}

// watched is a session that tells of its queries before they run.
type watched struct {
	*session.PGX
	tell func(sql string)
}

func (w watched) Query(ctx context.Context, sql string, args ...any) ([]session.Row, error) {
	w.tell(sql)
	return w.PGX.Query(ctx, sql, args...)
}

// slowSource is a source whose server is slow, and a node that ends links soon.
type slowSource struct {
	*testing.T
	cluster *pgtest.Cluster
	tell    func(sql string) // told of queries before they run, or nil; by several goroutines
}

func startSlowSource(t *testing.T) *slowSource {
	s := &slowSource{t, pgtest.Start(t, pgtest.Name("slow"), pgtest.Setting("courier.workers", "off")), nil}
	s.cluster.Database(t, "source")
	s.cluster.Database(t, "target")
	s.source("ALTER DATABASE source SET idle_in_transaction_session_timeout = '1s'")
	s.source("CREATE EXTENSION pg_courier CASCADE")
	s.source("SELECT courier.create_node('eu', $1::text)", s.cluster.DSN("target"))
	return s
}

func (s *slowSource) source(sql string, args ...any) { s.cluster.Exec(s.T, "source", sql, args...) }
func (s *slowSource) target(sql string)              { s.cluster.Exec(s.T, "target", sql) }

func (s *slowSource) both(sql string) {
	s.source(sql)
	s.target(sql)
}

// drain ships by a shipper of its own, as the sidecar does, and returns its log. The
// shipper is told to stop at the first query that holds a text. Before it counts rows
// the source takes a rest.
func (s *slowSource) drain(until string) (string, error) {
	s.Helper()
	ctx := session.WithLimit(dblink.WithLimits(s.Context(), impatient), 3*time.Second)
	connect := func() *session.PGX {
		c, err := session.Connect(ctx, s.cluster.SocketDSN("source"))
		require.NoError(s, err)
		return c
	}
	stopping := make(chan struct{})
	var once sync.Once
	tell := func(sql string) {
		if strings.HasPrefix(sql, "SELECT (SELECT pg_catalog.count(") {
			s.source("SELECT pg_sleep(3)")
		}
		if until != "" && strings.Contains(sql, until) {
			once.Do(func() { close(stopping) })
		}
		if s.tell != nil {
			s.tell(sql)
		}
	}
	first := connect()
	defer first.Close(context.Background())
	var log bytes.Buffer
	shipper := ship.New(ship.Config{Session: watched{first, tell}, Subscription: "s", Shipper: "session", Stopping: stopping,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Open: func(context.Context) (session.Session, func(), error) {
			c := connect()
			return watched{c, tell}, func() { c.Close(context.Background()) }, nil
		}})
	defer shipper.Close(context.Background())
	_, err := shipper.Drain(ctx)
	return log.String(), err
}

// A merge, a count, a dump of the structure and a copy that keeps to a rate outlive the
// times after which the node ends a link that is idle, and those after which the source
// is given up.
func TestCopyOutlivesIdleLimits(t *testing.T) {
	t.Parallel()
	s := startSlowSource(t)
	s.both("CREATE TYPE thing AS (v text); CREATE TABLE item (id int PRIMARY KEY, v thing)")
	s.source("CREATE TABLE page (id int PRIMARY KEY, v text); CREATE TABLE locked (id int)")
	s.source("INSERT INTO item VALUES (1, ROW('here'))")
	s.target("INSERT INTO item VALUES (1, ROW('there'))")
	s.source("INSERT INTO page SELECT i, repeat('v', 1000) FROM generate_series(1, 40) i")
	// Comparing takes long, for the source's server only; see drain() for counting.
	s.source(`CREATE FUNCTION slow(t thing) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_sleep(4);
			RETURN format('%s', t);
		END $$`)
	s.source("CREATE CAST (thing AS text) WITH FUNCTION slow(thing)")
	s.source("SELECT courier.replication_set_add_table('default', 'item')")
	s.source("SELECT courier.create_subscription('s', 'eu', on_existing => 'merge')")
	log, err := s.drain("")
	require.NoError(t, err, log)
	require.Equal(t, 1, strings.Count(log, "msg=attached"), log)
	require.Equal(t, "here", s.cluster.Value(t, "target", "SELECT (v).v FROM item"))

	s.source("SELECT courier.replication_set_add_table('default', 'page')")
	s.source(`SELECT courier.alter_subscription_options('s', '{"copy_rate": 8, "copy_workers": 8, "synchronize_structure": "true"}')`)
	locker := s.cluster.Connect(t, "source")
	unlocked := make(chan error, 1)
	go func() { // pg_dump waits for it
		_, err := locker.Exec(context.Background(), "BEGIN; LOCK TABLE locked; SELECT pg_sleep(5); ROLLBACK")
		unlocked <- err
	}()
	s.cluster.Eventually(t, "source", "SELECT count(*) FROM pg_locks WHERE relation = 'locked'::regclass AND mode = 'AccessExclusiveLock'", "1", 10*time.Second)
	log, err = s.drain("")
	require.NoError(t, <-unlocked)
	require.NoError(t, err, log)
	require.Equal(t, 1, strings.Count(log, "msg=attached"), log)
	require.Equal(t, "40", s.cluster.Value(t, "target", "SELECT count(*) FROM page"))
}

// startPacedCopy is a subscription that has yet to copy 2,000 rows, at a rate that
// takes some snapshots.
func startPacedCopy(t *testing.T) *slowSource {
	s := startSlowSource(t)
	s.both("CREATE TABLE item (id int PRIMARY KEY, v text)")
	s.source("INSERT INTO item SELECT i, repeat('v', 1000) FROM generate_series(1, 2000) i")
	s.source("SELECT courier.replication_set_add_table('default', 'item')")
	s.source(`SELECT courier.create_subscription('s', 'eu', options => '{"copy_rate": 200}')`)
	return s
}

// A rate that is changed while an epoch goes on holds from the next one on.
func TestCopyRateChanged(t *testing.T) {
	t.Parallel()
	s := startPacedCopy(t)
	var mu sync.Mutex
	var before, behind int // pauses
	changed := false
	s.tell = func(sql string) {
		mu.Lock()
		defer mu.Unlock()
		switch paused := strings.HasPrefix(sql, "SELECT pg_catalog.pg_sleep("); {
		case changed && paused:
			behind++
		case paused:
			before++
		case before > 0 && !changed && strings.HasPrefix(sql, "INSERT INTO courier.copy_progress"): // an epoch has ended
			changed = true
			require.NotEqual(t, "2000", s.cluster.Value(t, "target", "SELECT count(*) FROM item"))
			s.source(`SELECT courier.alter_subscription_options('s', '{"copy_rate": null}')`)
		}
	}
	log, err := s.drain("")
	require.NoError(t, err, log)
	require.True(t, changed, "nothing was to be paced")
	require.Zero(t, behind, "pauses by the rate of before")
	require.Equal(t, "2000", s.cluster.Value(t, "target", "SELECT count(*) FROM item"))
}

// The last copy to be cancelled, between two snapshots, ends the copying: the
// subscription is streaming, and whoever waits for it waits no longer.
func TestCopyCancelledBetweenSnapshots(t *testing.T) {
	t.Parallel()
	s := startPacedCopy(t)
	const state = "SELECT state FROM courier.subscription_state"
	var mu sync.Mutex
	var copied, noted, cancelled bool
	s.tell = func(sql string) {
		mu.Lock()
		defer mu.Unlock()
		copied = copied || strings.HasPrefix(sql, "SELECT pg_catalog.pg_sleep(")
		noted = noted || copied && strings.HasPrefix(sql, "INSERT INTO courier.copy_progress") // an epoch has ended
		if noted && !cancelled && strings.HasPrefix(sql, "SELECT generation") {
			cancelled = true
			require.Equal(t, "copying", s.cluster.Value(t, "source", state))
			s.source("SELECT courier.cancel_copy('s', 'item')")
		}
	}
	log, err := s.drain("")
	require.NoError(t, err, log)
	require.True(t, cancelled)
	require.NotEqual(t, "2000", s.cluster.Value(t, "target", "SELECT count(*) FROM item"))
	require.Equal(t, "streaming", s.cluster.Value(t, "source", state))
}

// Indexes that take longer to be made again than a statement may take keep neither the
// shipper of a cancelled copy from attaching nor a subscription from being dropped.
func TestCopyGivenUpMakesSlowIndexes(t *testing.T) {
	t.Parallel()
	s := startSlowSource(t)
	s.both("CREATE TABLE item (id int PRIMARY KEY, v text)")
	s.source("INSERT INTO item SELECT i, repeat('v', 1000) FROM generate_series(1, 1000) i")
	s.target(`CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN v; END $$`)
	s.target("CREATE INDEX slowly ON item (slow(v))")
	s.target(`CREATE OR REPLACE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM pg_sleep(0.01); RETURN v; END $$`)
	s.source("SELECT courier.replication_set_add_table('default', 'item')")
	s.source(`SELECT courier.create_subscription('s', 'eu', options => '{"copy_indexes": "rebuild", "copy_workers": 1}')`)
	const slowly = "SELECT count(*) FROM pg_class WHERE relname = 'slowly'"
	_, err := s.drain("stream_copy")
	require.ErrorIs(t, err, ship.ErrStopping)
	require.Equal(t, "0", s.cluster.Value(t, "target", slowly))
	require.NotEqual(t, "0", s.cluster.Value(t, "target", "SELECT count(*) FROM item"))
	s.target("INSERT INTO item SELECT i, 'more' FROM generate_series(10001, 10300) i") // 3 s at least
	s.source("SELECT courier.cancel_copy('s', 'item')")
	log, err := s.drain("")
	require.NoError(t, err, log)
	require.Equal(t, "1", s.cluster.Value(t, "target", slowly))

	s.source("SELECT courier.alter_subscription_resynchronize_table('s', 'item', 'truncate')")
	_, err = s.drain("stream_copy")
	require.ErrorIs(t, err, ship.ErrStopping)
	require.Equal(t, "0", s.cluster.Value(t, "target", slowly))
	s.target("INSERT INTO item SELECT i, 'more' FROM generate_series(20001, 20210) i")
	s.target(`CREATE OR REPLACE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM pg_sleep(0.05); RETURN v; END $$`) // 10 s at least
	s.source("SELECT courier.drop_subscription('s')")
	require.Equal(t, "1", s.cluster.Value(t, "target", slowly))
	require.Equal(t, "0", s.cluster.Value(t, "target", "SELECT count(*) FROM pg_namespace WHERE nspname = 'courier_target'"))
}

// What interrupts the merge of a table leaves those before it merged.
func TestMergeInterruptedKeepsOtherTables(t *testing.T) {
	t.Parallel()
	s := startSlowSource(t)
	s.both("CREATE TABLE first (id int PRIMARY KEY, v text); CREATE TABLE second (id int PRIMARY KEY, v text)")
	s.both("INSERT INTO first SELECT i, 'v' FROM generate_series(1, 100) i")
	s.both("INSERT INTO second SELECT i, repeat('v', 1000) FROM generate_series(1, 8000) i") // some ranges
	s.target("UPDATE first SET v = 'other'; UPDATE second SET v = 'other' WHERE id % 100 = 0; DELETE FROM second WHERE id % 77 = 0")
	s.source("SELECT courier.replication_set_add_table('default', t) FROM unnest('{first,second}'::text[]) t")
	s.source("SELECT courier.create_subscription('s', 'eu', on_existing => 'merge')")
	log, err := s.drain(`courier_place FROM ONLY "public"."second"`)
	require.ErrorIs(t, err, ship.ErrStopping, log)
	require.Equal(t, "1", s.cluster.Value(t, "target", "SELECT count(*) FROM courier_target.copying"), log)

	log, err = s.drain("")
	require.NoError(t, err, log)
	require.Equal(t, 1, strings.Count(log, "merging a table"), log)
	for _, table := range []string{"first", "second"} {
		content := "SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM " + table + " t"
		require.Equal(t, s.cluster.Value(t, "source", content), s.cluster.Value(t, "target", content), table)
	}
}
