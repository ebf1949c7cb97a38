package metrics

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

const collectedIn = 30 * time.Second

// settled scrapes until the first collection has ended, which on a loaded
// machine may be after the scrape that began it.
func (s *sidecar) settled(t *testing.T) page {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), collectedIn)
	defer cancel()
	for _, source := range s.sources {
		select {
		case <-source.refresh():
		case <-ctx.Done():
			t.Fatalf("the collection from %s has not ended", source.database.Name)
		}
	}
	return s.scrape(t)
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Name("metrics"))
	dsn := cluster.Database(t, "shop") + " password=topsecret"
	cluster.Exec(t, "shop", `
		CREATE EXTENSION pg_courier CASCADE;
		CREATE TABLE item (id int PRIMARY KEY, name text);
		SELECT courier.set_local_node('here');
		SELECT courier.create_node('eu1', 'host=127.0.0.1 port=1 dbname=x user=y password=nodesecret');
		SELECT courier.replication_set_add_table('default', 'item')`)
	cluster.Exec(t, "shop", `SELECT courier.create_subscription('eu', 'eu1', copy_data => false)`)
	cluster.Exec(t, "shop", `SELECT courier.create_subscription('us', 'eu1', enabled => false)`)
	cluster.Exec(t, "shop", `INSERT INTO item SELECT i, 'rowsecret' FROM generate_series(1, 500) i`)

	ready := supervise.DatabaseState{Name: "shop", State: "ready"}
	s := startSidecar(t, Config{Databases: []supervise.Database{{Name: "shop", DSN: dsn}}}, ready)
	p := s.settled(t)
	p.requireValue(t, 1, "courier_database_up", "database", "shop")
	p.requireValue(t, 500, "courier_subscription_pending_changes", "database", "shop", "subscription", "eu")
	p.requireValue(t, 1, "courier_subscription_state", "subscription", "eu", "state", "streaming")
	p.requireValue(t, 1, "courier_subscription_state", "subscription", "us", "state", "disabled")
	p.requireValue(t, 0, "courier_subscription_state", "subscription", "us", "state", "streaming")
	p.requireValue(t, 1, "courier_subscription_info", "subscription", "eu", "node", "eu1")
	p.requireValue(t, 0, "courier_subscription_dead_letters", "subscription", "eu")
	p.requireValue(t, 0, "courier_subscription_retries_total", "subscription", "eu")
	p.requireValue(t, 500, "courier_subscription_pending_changes", "subscription", "us")

	status := cluster.Query(t, "shop", `SELECT lag_bytes, extract(epoch FROM lag_time) > 0 FROM courier.subscription_status WHERE subscription_name = 'eu'`)
	bytes, _ := p.value("courier_subscription_lag_bytes", "subscription", "eu")
	require.Equal(t, status[0][0], text(bytes))
	for _, name := range []string{"courier_subscription_lag_seconds", "courier_database_queue_bytes", "courier_database_queue_oldest_change_seconds"} {
		value, ok := p.value(name, "database", "shop")
		require.True(t, ok && value > 0, name)
	}

	cluster.Exec(t, "shop", `SELECT courier.drop_subscription('us')`)
	s.config.Observer.Retried("shop", "us")
	_, had := s.scrape(t).value("courier_subscription_state", "subscription", "us")
	require.True(t, had, "nothing is asked for a while after a collection")
	s.later()
	p = s.settled(t)
	for _, name := range []string{"courier_subscription_state", "courier_subscription_info", "courier_subscription_pending_changes",
		"courier_subscription_retries_total", "courier_subscription_changes_total", "courier_subscription_apply_seconds"} {
		p.requireAbsent(t, name, "subscription", "us")
	}
	p.requireValue(t, 0, "courier_subscription_retries_total", "subscription", "eu")

	require.NoError(t, cluster.Stop(pgtest.Immediate))
	s.set(supervise.DatabaseState{Name: "shop", State: "down"})
	s.config.Observer.Retried("shop", "eu")
	s.later()
	p = s.settled(t)
	p.requireValue(t, 0, "courier_database_up", "database", "shop")
	p.requireValue(t, 1, "courier_database_state", "state", "down")
	p.requireValue(t, 1, "courier_subscription_retries_total", "subscription", "eu")
	for _, name := range []string{"courier_subscription_lag_seconds", "courier_subscription_lag_bytes", "courier_subscription_pending_changes",
		"courier_subscription_state", "courier_database_queue_bytes", "courier_database_queue_oldest_change_seconds"} {
		p.requireAbsent(t, name)
	}

	require.NoError(t, cluster.Start(t.Context()))
	s.set(ready)
	s.later()
	p = s.settled(t)
	p.requireValue(t, 1, "courier_database_up", "database", "shop")
	p.requireValue(t, 500, "courier_subscription_pending_changes", "subscription", "eu")

	require.Contains(t, s.log.String(), "metrics of the database are missing")
	require.Contains(t, s.log.String(), "complete again")
	for _, secret := range []string{"topsecret", "nodesecret", "rowsecret"} {
		require.NotContains(t, p.body+s.log.String(), secret)
	}
}

// Tables that are yet to be copied are counted, with their rows and bytes; those
// that are done no more.
func TestCopyMetrics(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Name("copied"), pgtest.Setting("courier.workers", "off"))
	dsn, node := cluster.Database(t, "shop"), cluster.Database(t, "node")
	for _, database := range []string{"shop", "node"} {
		cluster.Exec(t, database, "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
	}
	cluster.Exec(t, "shop", `CREATE EXTENSION pg_courier CASCADE;
		INSERT INTO item SELECT generate_series(1, 500);
		SELECT courier.replication_set_add_all_tables('default', '{public}')`)
	cluster.Exec(t, "shop", "SELECT courier.create_node('eu1', $1)", node)
	cluster.Exec(t, "shop", "SELECT courier.create_subscription('eu', 'eu1')")
	cluster.Exec(t, "shop", "SELECT courier.ship('eu')")
	s := startSidecar(t, Config{Databases: []supervise.Database{{Name: "shop", DSN: dsn}}}, supervise.DatabaseState{Name: "shop", State: "ready"})
	requireCopy := func(tables, rows, bytes, total, rate float64) {
		s.later()
		p := s.settled(t)
		for name, value := range map[string]float64{"tables": tables, "rows": rows, "bytes": bytes, "total_bytes": total, "bytes_per_second": rate} {
			p.requireValue(t, value, "courier_copy_"+name, "database", "shop", "subscription", "eu")
		}
	}
	require.Equal(t, "2", cluster.Value(t, "shop", "SELECT count(*) FROM courier.copy_status WHERE state = 'copied'"))
	requireCopy(0, 0, 0, 0, 0)
	cluster.Exec(t, "shop", `UPDATE courier.copy_progress SET state = 'copying', rows_copied = 5, bytes_copied = 100, bytes_total = 200, bytes_per_second = 50
		WHERE relation = 'item'::regclass`)
	requireCopy(1, 5, 100, 200, 50)
	cluster.Exec(t, "shop", "SELECT courier.alter_subscription_resynchronize_table('eu', 'other')")
	requireCopy(2, 5, 100, 200, 50)

	// a pace is that of a copy which goes on
	pace := func() string {
		return cluster.Value(t, "shop", `SELECT bytes_per_second IS NOT NULL AND time_left IS NOT NULL FROM courier.copy_status WHERE table_name = 'item'`)
	}
	require.Equal(t, "t", pace())
	for _, halt := range []struct{ begin, end string }{
		{"SELECT courier.pause_copy('eu')", "SELECT courier.resume_copy('eu')"},
		{"SELECT courier.alter_subscription_disable('eu')", "SELECT courier.alter_subscription_enable('eu')"},
		{"UPDATE courier.subscription_state SET state = 'stopped'", "UPDATE courier.subscription_state SET state = 'copying'"},
		{"UPDATE courier.copy_progress SET state = 'verifying' WHERE relation = 'item'::regclass",
			"UPDATE courier.copy_progress SET state = 'copying' WHERE relation = 'item'::regclass"},
		// nobody goes on with it
		{"UPDATE courier.copy_progress SET updated_at = now() - interval '2 minutes'", "UPDATE courier.copy_progress SET updated_at = now()"},
	} {
		cluster.Exec(t, "shop", halt.begin)
		require.Equal(t, "f", pace(), halt.begin)
		requireCopy(2, 5, 100, 200, 0)
		cluster.Exec(t, "shop", halt.end)
		requireCopy(2, 5, 100, 200, 50)
	}
	// a chunk of 20 MB at 50 bytes a second
	cluster.Exec(t, "shop", "UPDATE courier.copy_progress SET updated_at = now() - interval '1 day', bytes_total = 20000000, chunks_total = 1 WHERE relation = 'item'::regclass")
	requireCopy(2, 5, 100, 20000000, 50)
}

// A long backlog is estimated, within a few percent of what counting gives; what
// is within the limit is counted.
func TestBacklogEstimate(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Name("estimate"))
	cluster.Database(t, "shop")
	cluster.Exec(t, "shop", `CREATE EXTENSION pg_courier CASCADE;
		INSERT INTO courier.queue_0
		SELECT '0/1000000'::pg_lsn + i * 100, (1000 + i)::text::xid8, 0, 0, (1000000 + i)::int8 << 16, i % 7, repeat('x', (i % 97)::int)::bytea
		FROM generate_series(1, 20000) i;
		INSERT INTO courier.queue_1
		SELECT '0/1000000'::pg_lsn + i * 100, (1000 + i)::text::xid8, 0, 0, (1000000 + i)::int8 << 16, i % 7, repeat('x', (i % 97)::int)::bytea
		FROM generate_series(20001, 30000) i`)
	k := "(SELECT k FROM courier.queue_0 WHERE xid = '6000')"
	for _, position := range []string{
		"'1000:1000:'", "'5000:15000:5003,5010'", "'25000:25000:'",
		"'1000:1000:|40000:40000:|' || " + k + " || '|6000'", // inside an interval
	} {
		row := cluster.Query(t, "shop", `SELECT NOT e.exact, abs(e.changes - b.changes) < b.changes * 0.05,
			abs(e.bytes - b.bytes) < b.bytes * 0.05, abs(e.oldest_clock - b.oldest_clock) >> 16
			FROM (SELECT `+position+`) p (position), courier.backlog(p.position) b, courier.backlog_estimate(p.position, 2000) e`)[0]
		require.Equal(t, []string{"t", "t", "t", "0"}, row, "position %s", position)
	}
	row := cluster.Query(t, "shop", `SELECT e.exact, e.changes = b.changes, e.bytes = b.bytes, e.oldest_clock = b.oldest_clock
		FROM courier.backlog('30900:30900:') b, courier.backlog_estimate('30900:30900:', 500) e`)[0]
	require.Equal(t, []string{"t", "t", "t", "t"}, row)
}

// A database that does not answer holds a scrape up for a second only, and is
// down when it hangs up or when its time is over.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := text(float64(listener.Addr().(*net.TCPAddr).Port))
	s := startSidecar(t, Config{Databases: []supervise.Database{{Name: "mute", DSN: "host=127.0.0.1 user=u dbname=d sslmode=disable port=" + port}}},
		supervise.DatabaseState{Name: "mute", State: "connecting"})
	s.sources[0].deadline = 10 * collectedIn

	p := s.scrape(t)
	p.requireAbsent(t, "courier_database_up", "database", "mute")
	p.requireValue(t, 1, "courier_database_state", "database", "mute", "state", "connecting")
	conn, err := listener.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	p = s.settled(t)
	p.requireValue(t, 0, "courier_database_up", "database", "mute")

	// The kernel takes the connection; nobody reads.
	s.sources[0].deadline = 10 * time.Millisecond
	s.later()
	begun := time.Now()
	p = s.settled(t)
	p.requireValue(t, 0, "courier_database_up", "database", "mute")
	require.Less(t, time.Since(begun), collectedIn)
}
