package doctor

import (
	"encoding/json"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// A pair in good health has nothing worse than ok, and every check that is made
// is in the manual.
func TestHealthy(t *testing.T) {
	r := start(t)
	report := r.run()
	t.Log("\n" + report.Text(true, false))
	require.Equal(t, Healthy, report.ExitCode(), report.Text(false, false))
	require.Equal(t, "0 errors, 0 warnings, 0 info, 42 ok\n", report.Text(false, false))
	manual, err := os.ReadFile("../../docs/doctor.md")
	require.NoError(t, err)
	for _, f := range report.Findings {
		require.Contains(t, string(manual), "`"+f.Check+"`")
	}

	encoded, err := json.Marshal(report)
	require.NoError(t, err)
	var decoded Report
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	require.Equal(t, *report, decoded)
	require.Contains(t, string(encoded), `"severity":"ok"`)

	// it changes nothing: not even a session is left on the node
	r.target.Eventually(t, "app", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'courier_remote'", "0", time.Minute)
	e := &nodeExamination{examination: examination{config: &Config{connect: time.Minute}}, of: &node{Name: "eu", Server: "courier_eu"}}
	e.session, err = e.open(t.Context(), r.source.DSN("app"))
	require.NoError(t, err)
	defer e.session.Close(t.Context())
	_, err = e.session.Query(t.Context(), "DELETE FROM public.item")
	require.ErrorContains(t, err, "read-only")
	require.NoError(t, e.openLink(t.Context()))
	require.ErrorContains(t, e.link.Exec(t.Context(), "DELETE FROM public.item"), "read-only")
}

// What is seen by limits rather than by kind.
func TestLimits(t *testing.T) {
	r := start(t)
	r.onSource("INSERT INTO item SELECT generate_series(1, 1000)")
	session := r.source.Connect(t, "postgres")
	_, err := session.Exec(t.Context(), "BEGIN; SELECT 1")
	require.NoError(t, err)
	prepared := r.source.Connect(t, "app")
	_, err = prepared.Exec(t.Context(), "BEGIN; INSERT INTO item VALUES (5000); PREPARE TRANSACTION 'it''s'")
	require.NoError(t, err)
	require.Equal(t, Healthy, r.run().ExitCode())

	r.config.Limits = Limits{LongTransaction: time.Microsecond, Lag: time.Microsecond, QueueBytes: 1, Held: time.Microsecond}
	report := r.run()
	t.Log("\n" + report.Text(false, false))
	require.Equal(t, Ailing, report.ExitCode())
	long := findings(report, "long-transactions")
	require.Len(t, long, 2)
	if long[0].RunOn == "" {
		long[0], long[1] = long[1], long[0]
	}
	require.Contains(t, long[0].Message, "idle in transaction")
	require.Contains(t, long[1].Message, `"it's"`)
	require.Contains(t, long[1].Remedy, "ROLLBACK PREPARED 'it''s'")
	r.heal(long[0])
	r.onSource("ROLLBACK PREPARED 'it''s'")
	require.Empty(t, findings(r.run(), "long-transactions"))
	require.Contains(t, findings(report, "subscriptions")[0].Message, "behind")
	queue := findings(report, "queue")
	require.Len(t, queue, 1, "what is shipped holds nothing that it should not")
	require.Contains(t, queue[0].Message, "the queue takes")

	r.onSource("SELECT courier.alter_subscription_disable('to_eu')")
	r.config.Limits.QueueBytes = 1 << 40
	queue = findings(r.run(), "queue")
	require.Len(t, queue, 1)
	require.Contains(t, queue[0].Message, "the queue keeps 1,000 changes")
	require.Contains(t, queue[0].Message, "disabled")
	r.heal(queue[0])
	require.Empty(t, findings(r.run(), "queue"))

	r.config.Limits = Limits{ConnectionsLeft: 1000}
	connections := findings(r.run(), "connections")
	require.Len(t, connections, 2, "of both sides")
	require.Contains(t, connections[0].Remedy, "max_connections = 200")
}

// Nodes that cannot be reached cost one finding each, and not more than some
// seconds; the others are examined all the same.
func TestUnreachableNodes(t *testing.T) {
	r := start(t)
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	_, port, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	r.onSource("SELECT courier.create_node('down', 'host=127.0.0.1 port=1 dbname=x user=u password=topsecret')")
	r.onSource("SELECT courier.create_node('hangs', $1)", "host=127.0.0.1 port="+port+" dbname=x user=u password=topsecret connect_timeout=0")
	r.onSource("SELECT courier.create_node('locked', $1)", r.target.DSNAs("app", pgtest.PasswordRole, "topsecret"))
	r.onSource("SELECT courier.create_subscription('to_' || n, n, copy_data => false) FROM unnest(ARRAY['down', 'hangs', 'locked']) n")
	r.config.connect = 5 * time.Second
	began := time.Now()
	report := r.run()
	t.Log("\n" + report.Text(false, false))
	require.Less(t, time.Since(began), time.Minute)
	require.Equal(t, Seriously, report.ExitCode())
	require.NotContains(t, report.Text(true, false), "topsecret")
	byNode := make(map[string][]Finding)
	for _, f := range report.Findings {
		if f.Node != "" && f.Check != "user-mapping" && f.Check != "server-options" {
			byNode[f.Node] = append(byNode[f.Node], f)
		}
	}
	require.Greater(t, len(byNode["eu"]), 15)
	for node, says := range map[string]string{"down": "refused", "hangs": "no answer within 5s", "locked": "password authentication failed"} {
		require.Len(t, byNode[node], 1)
		require.Equal(t, "node-connection", byNode[node][0].Check)
		require.Equal(t, Error, byNode[node][0].Severity)
		require.Contains(t, byNode[node][0].Message, says)
	}
	options := findings(report, "server-options")
	require.Len(t, options, 1)
	require.Contains(t, options[0].Remedy, "SET connect_timeout '10'")
	r.heal(options[0])
}

// Sources that cannot be examined, or only in part.
func TestPoorSources(t *testing.T) {
	r := start(t)
	r.source.Database(t, "plain")
	r.source.Exec(t, "postgres", "CREATE ROLE watcher LOGIN PASSWORD 'topsecret' IN ROLE pg_monitor")
	app := r.config.Databases[0]
	r.config.Databases = []Database{
		{Name: "down", DSN: "host=127.0.0.1 port=1 dbname=x password=topsecret"},
		{Name: "refused", DSN: r.source.DSNAs("app", "watcher", "topsecret wrong")},
		{Name: "plain", DSN: r.source.DSN("plain")},
		{Name: "watched", DSN: r.source.DSNAs("app", "watcher", "topsecret")},
		app,
	}
	report := r.run()
	t.Log("\n" + report.Text(false, false))
	require.NotContains(t, report.Text(true, false), "topsecret")
	byDatabase := make(map[string][]Finding)
	for _, f := range report.Findings {
		byDatabase[f.Database] = append(byDatabase[f.Database], f)
	}
	require.Len(t, byDatabase["down"], 1)
	require.Len(t, byDatabase["refused"], 1)
	require.Contains(t, byDatabase["refused"][0].Message, "password authentication failed")
	require.Equal(t, "connection", byDatabase["down"][0].Check)

	bare := byDatabase["plain"][len(byDatabase["plain"])-1]
	require.Equal(t, "extension", bare.Check)
	require.Equal(t, Error, bare.Severity)
	require.Equal(t, "CREATE EXTENSION pg_courier CASCADE;", bare.Remedy)
	r.source.Exec(t, "plain", bare.Remedy)

	poor := findings(report, "administrator")
	require.Len(t, poor, 1)
	require.Equal(t, "watched", poor[0].Database)
	require.Contains(t, poor[0].Remedy, "GRANT postgres TO watcher")
	require.Greater(t, len(byDatabase["watched"]), 10, "the rest is examined")
	require.Greater(t, len(byDatabase["app"]), 40)

	r.onSource("GRANT postgres TO watcher")
	report = r.run()
	require.Empty(t, findings(report, "administrator"))
	for _, f := range findings(report, "extension") {
		require.NotEqual(t, "plain", f.Database)
	}
}

// An administrator who is no superuser, and whom some things are kept from.
func TestPlainAdministrator(t *testing.T) {
	r := start(t)
	r.onSource(`CREATE ROLE keeper; CREATE ROLE adm LOGIN PASSWORD 'topsecret'; GRANT postgres TO adm;
		ALTER TABLE item OWNER TO keeper; ALTER TABLE "Odd"."order" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		GRANT USAGE ON FOREIGN DATA WRAPPER dblink_fdw TO keeper;
		ALTER SERVER courier_eu OWNER TO keeper`)
	r.config.Databases[0].DSN = r.source.DSNAs("app", "adm", "topsecret")
	report := r.run()
	t.Log("\n" + report.Text(false, false))
	mapping := findings(report, "user-mapping")
	require.Len(t, mapping, 1)
	require.Equal(t, "GRANT USAGE ON FOREIGN SERVER courier_eu TO adm;", mapping[0].Remedy)
	closed := findings(report, "copy-privileges")
	require.Len(t, closed, 2)
	for _, f := range append(closed, mapping...) {
		r.heal(f)
	}
	report = r.run()
	require.Equal(t, Healthy, report.ExitCode(), report.Text(false, false))
	require.Empty(t, findings(report, "copy-privileges"))
	require.NotEmpty(t, report.Findings[len(report.Findings)-1].Node, "the node is examined")
}

// A role that may not set session_replication_role: the node's triggers fire.
func TestOrdinaryTriggersFire(t *testing.T) {
	r := start(t)
	may := r.target.Value(t, "app", "SELECT current_setting('server_version_num')::int >= 150000") == "t"
	if may {
		r.onNode("REVOKE SET ON PARAMETER session_replication_role FROM courier_remote")
	}
	r.onNode(`CREATE EXTENSION pg_courier CASCADE`)
	r.onNode(`SELECT courier.create_node('back', 'dbname=x');
		SELECT courier.replication_set_add_table('default', 'item');
		SELECT courier.create_subscription('back', 'back', copy_data => false)`)
	report := r.run()
	role := findings(report, "replication-role")
	require.Len(t, role, 1)
	require.Equal(t, Info, role[0].Severity)
	triggers := findings(report, "target-triggers")
	require.Len(t, triggers, 3, "what arrives is captured there")
	require.Equal(t, Warning, triggers[0].Severity)
	if may {
		r.heal(role[0])
		require.Equal(t, Healthy, r.run().ExitCode())
	}
}
