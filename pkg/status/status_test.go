package status_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

const secret = "topsecret"

// setup makes a source with a subscription in each state, and a role that is
// only a member of pg_monitor.
func setup(t *testing.T) *pgtest.Cluster {
	t.Helper()
	cluster := pgtest.Start(t, pgtest.Name("status"))
	cluster.Database(t, "app")
	cluster.Database(t, "plain")
	cluster.Exec(t, "app", "CREATE EXTENSION pg_courier CASCADE")
	cluster.Exec(t, "app", "SELECT courier.create_node('eu', $1)", cluster.DSN("nowhere")+" password="+secret)
	cluster.Exec(t, "app", `CREATE TABLE t (id int PRIMARY KEY);
		SELECT courier.replication_set_add_table('default', 't');
		SELECT courier.create_subscription(name, 'eu', copy_data => false, enabled => name <> 'resting')
		FROM unnest(ARRAY['streams', 'retries', 'stops', 'resting']) name;
		INSERT INTO t SELECT generate_series(1, 12345);
		UPDATE courier.subscription_state SET shipper = 'sidecar';
		INSERT INTO courier.subscription_statistics
			(subscription_id, shipped, events, commands, batches, bytes, read_time, render_time, apply_time)
		SELECT subscription_id, 7, 0, 0, 0, 0, 0, 0, 0 FROM courier.subscription;
		UPDATE courier.subscription_state t SET state = 'retrying', next_retry_at = clock_timestamp() + interval '1 hour',
			last_error = E'connect to node eu:\n\x1b[2J no', last_error_sqlstate = '08001', last_error_hint = 'Check it.'
		FROM courier.subscription s WHERE s.subscription_id = t.subscription_id AND subscription_name = 'retries';
		UPDATE courier.subscription_state t SET state = 'stopped',
			last_error = 'permission denied', last_error_sqlstate = '42501', last_error_hint = 'Grant it.'
		FROM courier.subscription s WHERE s.subscription_id = t.subscription_id AND subscription_name = 'stops'`)
	cluster.Exec(t, "postgres", "CREATE ROLE watcher LOGIN PASSWORD '"+secret+"' IN ROLE pg_monitor")
	return cluster
}

func TestStatus(t *testing.T) {
	cluster := setup(t)
	reader := status.New([]status.Source{
		{Name: "app", DSN: cluster.DSNAs("app", "watcher", secret)},
		{Name: "plain", DSN: cluster.DSNAs("plain", "watcher", secret)},
		{Name: "nowhere", DSN: "host=127.0.0.1 port=1 dbname=x password=" + secret},
	})
	defer reader.Close(t.Context())
	report := reader.Read(t.Context())
	require.Equal(t, status.Unreachable, report.ExitCode())
	require.Len(t, report.Databases, 3)

	app := report.Databases[0]
	require.Nil(t, app.Error)
	require.Equal(t, "0.1.0", app.Version)
	require.WithinDuration(t, time.Now(), app.ReadAt, time.Minute)
	require.Greater(t, app.Queue.Bytes, int64(100_000))
	byName := map[string]status.Subscription{}
	for _, s := range app.Subscriptions {
		byName[s.Name] = s
	}
	require.Len(t, byName, 4)
	streams := byName["streams"]
	require.Equal(t, "streaming", streams.State)
	require.Equal(t, "eu", streams.Node)
	require.Equal(t, int64(12345), *streams.PendingChanges)
	require.Positive(t, *streams.LagBytes)
	require.Positive(t, *streams.LagSeconds)
	require.Equal(t, "sidecar", streams.Shipper)
	require.Equal(t, int64(7), streams.Shipped)
	require.Nil(t, streams.LastError)
	require.Nil(t, streams.NextRetryAt)
	require.Equal(t, "disabled", byName["resting"].State)
	require.Equal(t, &status.Error{Message: "permission denied", SQLState: "42501", Hint: "Grant it."}, byName["stops"].LastError)
	require.WithinDuration(t, time.Now().Add(time.Hour), *byName["retries"].NextRetryAt, time.Minute)
	require.Len(t, app.Nodes, 1)
	require.Equal(t, "eu", app.Nodes[0].Name)
	require.Equal(t, 1, app.Nodes[0].Stopped)

	require.Equal(t, "42704", report.Databases[1].Error.SQLState)
	require.Contains(t, report.Databases[1].Error.Hint, "CREATE EXTENSION")
	require.NotNil(t, report.Databases[2].Error)

	encoded, err := json.Marshal(report)
	require.NoError(t, err)
	text := report.Text(false)
	t.Log("\n" + text)
	require.NotContains(t, string(encoded)+text, secret)
	require.NotContains(t, text, "\x1b", "an error cannot command the terminal")
	require.NotContains(t, string(encoded), "null,\"nodes\"")
	for _, says := range []string{"12,345", "streaming", "disabled", "sidecar", "permission denied (42501)", "hint: Grant it.", "in 1h0m", "unreachable", "KiB"} {
		require.Contains(t, text, says)
	}
	require.Contains(t, report.Text(true), "\x1b[32mstreaming\x1b[0m")

	// states decide about the exit code, and the session is used again
	for _, c := range []struct {
		sql  string
		code int
	}{
		{"UPDATE courier.subscription_state SET state = 'streaming'", status.AllWell},
		{"UPDATE courier.subscription_state SET state = 'copying'", status.AllWell},
		{"UPDATE courier.subscription_state SET state = 'needs_resync'", status.Trouble},
		{"UPDATE courier.subscription SET enabled = false", status.AllWell},
	} {
		cluster.Exec(t, "app", c.sql)
		one := status.Report{Databases: reader.Read(t.Context()).Databases[:1]}
		require.Equal(t, c.code, one.ExitCode(), c.sql)
	}
	// a lost session is replaced
	cluster.Exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watcher'")
	require.NotNil(t, reader.Read(t.Context()).Databases[0].Error)
	require.Nil(t, reader.Read(t.Context()).Databases[0].Error)
}

// A role without pg_monitor sees all but the texts of errors.
func TestStatusOfPlainRole(t *testing.T) {
	cluster := setup(t)
	reader := status.New([]status.Source{{Name: "app", DSN: cluster.DSNAs("app", pgtest.PasswordRole, pgtest.Password)}})
	defer reader.Close(t.Context())
	report := reader.Read(t.Context())
	require.Nil(t, report.Databases[0].Error)
	require.Equal(t, status.Trouble, report.ExitCode())
	require.NotContains(t, report.Text(false), "permission denied")
	require.Contains(t, report.Text(false), "42501")
	require.Contains(t, report.Text(false), "pg_monitor")
}

// The columns that node_status has once nodes are probed.
func TestStatusOfProbedNodes(t *testing.T) {
	cluster := setup(t)
	cluster.Exec(t, "app", `ALTER EXTENSION pg_courier DROP VIEW courier.node_status;
		DROP VIEW courier.node_status;
		CREATE VIEW courier.node_status AS SELECT 'eu'::name AS node_name, 'courier_eu'::name AS server_name,
			1 AS subscriptions, 0 AS shipping, 1 AS retrying, 0 AS stopped, 'down' AS state,
			now() - interval '90 minutes' AS since, 'it does not answer' AS reason, interval '12 ms' AS latency,
			'15.20' AS server_version, interval '-1.5 s' AS clock_offset, 42 AS connections_left;
		GRANT SELECT ON courier.node_status TO PUBLIC;
		UPDATE courier.subscription_state SET state = 'streaming'`)
	reader := status.New([]status.Source{{Name: "app", DSN: cluster.DSNAs("app", "watcher", secret)}})
	defer reader.Close(t.Context())
	report := reader.Read(t.Context())
	require.Nil(t, report.Databases[0].Error)
	require.Equal(t, status.Trouble, report.ExitCode(), "a node is down")
	node := report.Databases[0].Nodes[0]
	require.Equal(t, "down", *node.State)
	require.InDelta(t, 0.012, *node.LatencySeconds, 1e-9)
	require.InDelta(t, -1.5, *node.ClockOffsetSeconds, 1e-9)
	require.Equal(t, 42, *node.ConnectionsLeft)
	text := report.Text(false)
	for _, says := range []string{"down", "1h30m", "12ms", "-1.5s", "15.20", "it does not answer"} {
		require.Contains(t, text, says)
	}
}

// Every field of --json is in the manual.
func TestManualNamesEveryField(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	for _, part := range []any{status.Report{}, status.Database{}, status.Error{}, status.Queue{}, status.Subscription{}, status.Copy{}, status.Node{}} {
		for field := range reflect.TypeOf(part).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			require.Contains(t, string(manual), "`"+name+"`", "%T", part)
		}
	}
}
