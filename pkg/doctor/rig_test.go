package doctor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// rig is a source and a node in good health: whatever the doctor finds there was
// planted. The node is reached as a role that is no superuser.
type rig struct {
	t              *testing.T
	source, target *pgtest.Cluster
	config         Config
}

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t,
		source: pgtest.Start(t, pgtest.Name("source"), pgtest.Durable(), pgtest.Preload(true), pgtest.Setting("courier.workers", "off"),
			pgtest.Setting("max_prepared_transactions", "4")),
		target: pgtest.Start(t, pgtest.Name("target"), pgtest.Durable())}
	r.source.Database(t, "app")
	r.target.Database(t, "app")
	r.onNode(`GRANT CREATE ON DATABASE app TO courier_remote; GRANT CREATE, USAGE ON SCHEMA public TO courier_remote;
		DO $$ BEGIN
			IF current_setting('server_version_num')::int >= 150000 THEN
				EXECUTE 'GRANT SET ON PARAMETER session_replication_role TO courier_remote';
			END IF;
		END $$`)
	const tables = `
		CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10,2), note varchar(20));
		CREATE SCHEMA "Odd";
		CREATE TABLE "Odd"."order" ("Id" bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), twice bigint GENERATED ALWAYS AS ("Id" * 2) STORED);
		CREATE TABLE part (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE part_all PARTITION OF part DEFAULT;`
	r.onSource("CREATE EXTENSION pg_courier CASCADE")
	r.onSource("SELECT courier.set_local_node('here')")
	r.onSource("SELECT courier.create_node('eu', $1)", r.target.DSNAs("app", pgtest.PasswordRole, pgtest.Password))
	r.onSource(tables + `SELECT courier.replication_set_add_all_tables('default', ARRAY['public', 'Odd']);
		SELECT courier.create_subscription('to_eu', 'eu')`)
	r.onNode("GRANT CREATE ON DATABASE app TO courier_remote; SET ROLE courier_remote; " + tables)
	r.onSource("SELECT courier.ship('to_eu')")
	r.config = Config{Version: "0.1.0", Databases: []Database{{Name: "app", DSN: r.source.DSN("app")}}}
	return r
}

func (r *rig) onSource(sql string, args ...any) {
	r.t.Helper()
	r.source.Exec(r.t, "app", sql, args...)
}

func (r *rig) onNode(sql string, args ...any) {
	r.t.Helper()
	r.target.Exec(r.t, "app", sql, args...)
}

// run examines and makes sure that nothing secret is told.
func (r *rig) run() *Report {
	r.t.Helper()
	report := Run(r.t.Context(), r.config)
	text := report.Text(true, false)
	require.NotContains(r.t, text, pgtest.Password)
	require.NotContains(r.t, text, "could not be made", "every check works")
	for _, f := range report.Findings {
		require.NotEmpty(r.t, f.Check)
		require.NotEmpty(r.t, f.Message, f.Check)
		if f.Severity > OK {
			require.NotEmpty(r.t, f.Why, f.Check)
			require.NotEmpty(r.t, f.Remedy, f.Check)
		}
	}
	return report
}

// heal runs the statements of a finding, each by itself, as psql would.
func (r *rig) heal(f Finding) {
	r.t.Helper()
	for line := range strings.SplitSeq(f.Remedy, "\n") {
		if strings.HasPrefix(line, "--") {
			continue
		}
		if f.RunOn == OnSource {
			r.onSource(line)
		} else {
			r.onNode(line)
		}
	}
}

// findings are those of a check that are worse than ok.
func findings(report *Report, check string) []Finding {
	var found []Finding
	for _, f := range report.Findings {
		if f.Check == check && f.Severity > OK {
			found = append(found, f)
		}
	}
	return found
}
