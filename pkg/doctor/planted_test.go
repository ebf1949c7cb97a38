package doctor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// defect is something wrong and what the doctor has to say of it.
type defect struct {
	name           string
	source, target string // statements that plant it
	plant          func(*testing.T, *rig)
	check          string
	severity       Severity
	table          string
	says           string // part of the message
	remedy         string // part of the remedy
	runOn          string // where the remedy is run; "" when it is words
	undo           string // statements on the source that help where words do not
	undoTarget     string
}

// defects that the rest of the examination survives. Each is planted alone, into
// a pair in good health, and gone after its remedy.
var defects = []defect{
	{name: "capture trigger dropped", source: `DROP TRIGGER "!pg_courier_row" ON item`,
		check: "capture", severity: Error, table: "public.item", says: "is missing", remedy: "courier.sync_capture()", runOn: OnSource},
	{name: "truncate trigger disabled", source: `ALTER TABLE "Odd"."order" DISABLE TRIGGER "!pg_courier_truncate"`,
		check: "capture", severity: Error, table: `"Odd"."order"`, says: "is disabled", remedy: "ENABLE TRIGGER", runOn: OnSource},
	{name: "capture trigger for replicas", source: `ALTER TABLE item ENABLE REPLICA TRIGGER "!pg_courier_row"`,
		check: "capture", severity: Error, table: "public.item", says: "replicas only", runOn: OnSource},
	{name: "capture trigger always", source: `ALTER TABLE item ENABLE ALWAYS TRIGGER "!pg_courier_row"`,
		check: "capture", severity: Warning, table: "public.item", says: "ALWAYS", runOn: OnSource},
	{name: "capture trigger of a partition disabled", source: `ALTER TABLE part_all DISABLE TRIGGER "!pg_courier_row"`,
		check: "capture", severity: Error, table: "public.part_all", says: "is disabled", runOn: OnSource},

	{name: "no key any more", source: `ALTER TABLE item DROP CONSTRAINT item_pkey`,
		check: "replica-identity", severity: Error, table: "public.item", says: "no key", remedy: "REPLICA IDENTITY FULL", runOn: OnSource,
		undo: "ALTER TABLE item ADD PRIMARY KEY (id), REPLICA IDENTITY DEFAULT"},
	{name: "another index would do", source: `ALTER TABLE item DROP CONSTRAINT item_pkey; CREATE UNIQUE INDEX item_id ON item (id)`,
		check: "replica-identity", severity: Error, table: "public.item", remedy: "USING INDEX item_id", runOn: OnSource,
		undo: "DROP INDEX item_id; ALTER TABLE item ADD PRIMARY KEY (id), REPLICA IDENTITY DEFAULT"},
	{name: "identity nothing", source: `ALTER TABLE item REPLICA IDENTITY NOTHING`,
		check: "replica-identity", severity: Error, table: "public.item", remedy: "REPLICA IDENTITY DEFAULT", runOn: OnSource},
	{name: "found by whole rows", source: `ALTER TABLE item DROP CONSTRAINT item_pkey, REPLICA IDENTITY FULL; CREATE UNIQUE INDEX item_id ON item (id)`,
		check: "replica-identity", severity: Info, table: "public.item", says: "FULL", remedy: "USING INDEX item_id", runOn: OnSource,
		undo: "DROP INDEX item_id; ALTER TABLE item ADD PRIMARY KEY (id), REPLICA IDENTITY DEFAULT"},

	{name: "table missing", target: `DROP TABLE item`,
		check: "table", severity: Error, table: "public.item", says: "does not exist", remedy: "CREATE TABLE public.item (id integer NOT NULL", runOn: OnNode,
		undoTarget: "ALTER TABLE item OWNER TO courier_remote"},
	{name: "schema missing", target: `DROP SCHEMA "Odd" CASCADE`,
		check: "table", severity: Error, table: `"Odd"."order"`, says: "does not exist", remedy: `CREATE SCHEMA IF NOT EXISTS "Odd"`, runOn: OnNode,
		undoTarget: `ALTER SCHEMA "Odd" OWNER TO courier_remote; ALTER TABLE "Odd"."order" OWNER TO courier_remote`},
	{name: "table unlogged", target: `ALTER TABLE item SET UNLOGGED`,
		check: "table", severity: Warning, table: "public.item", says: "unlogged", remedy: "SET LOGGED", runOn: OnNode},

	{name: "column missing", source: `ALTER TABLE item ADD COLUMN "select" timestamptz(3)`,
		check: "columns", severity: Error, table: "public.item", says: `column "select" does not exist`,
		remedy: `ADD COLUMN "select" timestamp(3) with time zone`, runOn: OnNode,
		undo: `ALTER TABLE item DROP COLUMN "select"`, undoTarget: `ALTER TABLE item DROP COLUMN "select"`},
	{name: "column of the node that nobody fills", target: `ALTER TABLE item ADD COLUMN extra int NOT NULL`,
		check: "columns", severity: Error, table: "public.item", says: "is not sent", remedy: "DROP NOT NULL", runOn: OnNode,
		undoTarget: "ALTER TABLE item DROP COLUMN extra"},
	{name: "NOT NULL on the node only", target: `ALTER TABLE item ALTER COLUMN note SET NOT NULL`,
		check: "columns", severity: Warning, table: "public.item", says: "column note is NOT NULL on the node", remedy: "DROP NOT NULL", runOn: OnNode},
	{name: "generated on the node", target: `ALTER TABLE item DROP COLUMN note; ALTER TABLE item ADD COLUMN note varchar(20) GENERATED ALWAYS AS ('x') STORED`,
		check: "columns", severity: Info, table: "public.item", says: "is a generated column", remedy: "DROP EXPRESSION", runOn: OnNode},
	{name: "key generated on the node", target: `ALTER TABLE item ADD COLUMN base int, DROP COLUMN id;
			ALTER TABLE item ADD COLUMN id int GENERATED ALWAYS AS (base + 1) STORED PRIMARY KEY`,
		check: "columns", severity: Error, table: "public.item", says: "key column id is a generated column", remedy: "DROP EXPRESSION", runOn: OnNode,
		undoTarget: "ALTER TABLE item DROP COLUMN base"},
	{name: "identity always", target: `ALTER TABLE item ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY`,
		check: "columns", severity: Info, table: "public.item", says: "GENERATED ALWAYS", remedy: "SET GENERATED BY DEFAULT", runOn: OnNode},

	{name: "other type", target: `ALTER TABLE item ALTER COLUMN name TYPE int USING 0`,
		check: "types", severity: Error, table: "public.item", says: "column name is text on the source and integer on the node",
		remedy: "TYPE text USING name::text::text", runOn: OnNode},
	{name: "narrower type", target: `ALTER TABLE item ALTER COLUMN note TYPE varchar(10)`,
		check: "types", severity: Warning, table: "public.item", remedy: "TYPE character varying(20)", runOn: OnNode},
	{name: "no unique index", target: `ALTER TABLE item DROP CONSTRAINT item_pkey; CREATE UNIQUE INDEX ON item (id, name); CREATE UNIQUE INDEX ON item (id) WHERE id > 0`,
		check: "key", severity: Error, table: "public.item", says: "(id)", remedy: "CREATE UNIQUE INDEX ON public.item (id)", runOn: OnNode,
		undoTarget: "ALTER TABLE item ADD PRIMARY KEY (id)"},
	{name: "privileges on the table", target: `ALTER TABLE item OWNER TO postgres; GRANT SELECT, INSERT ON item TO courier_remote`,
		check: "table-privileges", severity: Error, table: "public.item", says: "lacks UPDATE, DELETE, TRUNCATE",
		remedy: "GRANT UPDATE, DELETE, TRUNCATE ON public.item TO courier_remote", runOn: OnNode,
		undoTarget: "ALTER TABLE item OWNER TO courier_remote"},
	{name: "privilege on the schema", target: `ALTER SCHEMA "Odd" OWNER TO postgres`,
		check: "table-privileges", severity: Error, table: `"Odd"."order"`, says: `may not use schema "Odd"`, remedy: `GRANT USAGE ON SCHEMA "Odd"`, runOn: OnNode},
	{name: "row security", target: `ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY`,
		check: "row-security", severity: Warning, table: "public.item", remedy: "BYPASSRLS", runOn: OnNode,
		undoTarget: "ALTER ROLE courier_remote NOBYPASSRLS; ALTER TABLE item DISABLE ROW LEVEL SECURITY"},
	{name: "trigger always", target: `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
			CREATE TRIGGER watch BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE item ENABLE ALWAYS TRIGGER watch;
			CREATE TRIGGER rests BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION f()`,
		check: "target-triggers", severity: Info, table: "public.item", says: "trigger watch", remedy: "ENABLE TRIGGER watch", runOn: OnNode,
		undoTarget: "DROP FUNCTION f() CASCADE"},

	{name: "bookkeeping of a stranger", target: `CREATE ROLE stranger; ALTER TABLE courier_target.event OWNER TO stranger`,
		check: "target-objects", severity: Error, says: "stranger", remedy: "ALTER TABLE courier_target.event OWNER TO courier_remote", runOn: OnNode},
	{name: "no bookkeeping and no right to make it", target: `DROP SCHEMA courier_target CASCADE; REVOKE CREATE ON DATABASE app FROM courier_remote`,
		check: "target-objects", severity: Error, says: "may not create it", remedy: "GRANT CREATE ON DATABASE app TO courier_remote", runOn: OnNode},
	{name: "bookkeeping half there", target: `DROP FUNCTION IF EXISTS courier_target.check_updated; CREATE SCHEMA IF NOT EXISTS courier_target; ALTER SCHEMA courier_target OWNER TO postgres`,
		check: "target-objects", severity: Error, says: "is incomplete", remedy: "GRANT CREATE, USAGE ON SCHEMA courier_target", runOn: OnNode,
		undoTarget: "DROP SCHEMA courier_target CASCADE"},
	{name: "bookkeeping of the superuser", target: `ALTER SCHEMA courier_target OWNER TO postgres; ALTER TABLE courier_target.event OWNER TO postgres`,
		check: "target-objects", severity: Error, says: "lacks privileges", remedy: "GRANT USAGE ON SCHEMA courier_target", runOn: OnNode,
		undoTarget: "DROP SCHEMA courier_target CASCADE"},
	{name: "connections of the role", target: `ALTER ROLE courier_remote CONNECTION LIMIT 4`,
		check: "connections", severity: Warning, says: "of its own limit", remedy: "CONNECTION LIMIT -1", runOn: OnNode},
	{name: "connections of the database", target: `ALTER DATABASE app CONNECTION LIMIT 5`,
		check: "connections", severity: Warning, says: "database app", remedy: "CONNECTION LIMIT -1", runOn: OnNode},
	{name: "rows in the node's log", target: `ALTER ROLE courier_remote SET log_statement = 'mod'`,
		check: "logging", severity: Warning, says: "log_statement", remedy: "log_statement = 'none'", runOn: OnNode},
	{name: "slow batches in the node's log", target: `ALTER DATABASE app SET log_min_duration_statement = 500`,
		check: "logging", severity: Warning, says: "500ms", remedy: "= -1", runOn: OnNode},
	{name: "fsync off on the node", target: `ALTER SYSTEM SET fsync = off`,
		plant: func(t *testing.T, r *rig) { r.onNode("SELECT pg_reload_conf()") },
		check: "durability", severity: Warning, says: "fsync is off", remedy: "pg_reload_conf", runOn: OnNode},
	{name: "fsync off on the source", source: `ALTER SYSTEM SET fsync = off`,
		plant: func(t *testing.T, r *rig) { r.onSource("SELECT pg_reload_conf()") },
		check: "durability", severity: Warning, says: "fsync is off", runOn: OnSource},

	{name: "options of the server", source: `ALTER SERVER courier_eu OPTIONS (DROP connect_timeout, SET tcp_user_timeout '0', SET keepalives '0')`,
		check: "server-options", severity: Warning, says: "connect_timeout, tcp_user_timeout, keepalives",
		remedy: "ADD connect_timeout '10'", runOn: OnSource},
	{name: "no name", source: `DELETE FROM courier.local_node`,
		check: "local-node", severity: Info, remedy: "set_local_node('app')", runOn: OnSource},
	{name: "stopped", source: `UPDATE courier.subscription_state SET state = 'stopped', last_error = E'it is\nbroken', last_error_sqlstate = '42P01', last_error_hint = 'Mend it.'`,
		check: "subscriptions", severity: Error, says: "stopped: it is broken (42P01)", remedy: "Mend it.",
		undo: "UPDATE courier.subscription_state SET state = 'streaming', last_error = null, last_error_sqlstate = null, last_error_hint = null"},
	{name: "retrying", source: `UPDATE courier.subscription_state SET state = 'retrying', last_error = 'no', last_error_sqlstate = '08006', last_error_hint = 'Wait.'`,
		check: "subscriptions", severity: Warning, says: "interrupted: no (08006)", remedy: "Wait.",
		undo: "UPDATE courier.subscription_state SET state = 'streaming', last_error = null, last_error_sqlstate = null, last_error_hint = null"},
	{name: "needs resync", source: `UPDATE courier.subscription_state SET state = 'needs_resync'`,
		check: "subscriptions", severity: Error, says: "needs a resync", remedy: "copy_data",
		undo: "UPDATE courier.subscription_state SET state = 'streaming'"},
	{name: "sends nothing", source: `SELECT courier.create_replication_set('empty'); SELECT courier.create_subscription('idle', 'eu', '{empty}', copy_data => false)`,
		check: "configuration", severity: Info, says: "no table",
		undo: "SELECT courier.drop_subscription('idle')"},
	{name: "restored from a dump", source: `INSERT INTO courier.subscription (subscription_name, node_name, replication_sets, copy_data, capture, enabled)
			VALUES ('old', 'eu', '{default}', false, 'trigger', false)`,
		check: "configuration", severity: Warning, says: "restored from a dump", remedy: "drop_subscription('old')", runOn: OnSource},
	{name: "update of the extension", source: `UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'pg_courier'`,
		plant: func(_ *testing.T, r *rig) { r.config.Version = "unknown" },
		check: "extension", severity: Warning, says: "version 0.0.9, the server has the files of 0.1.0", remedy: "ALTER EXTENSION pg_courier UPDATE",
		undo: "UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'pg_courier'"},
	{name: "incompatible extension", source: `UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'pg_courier'`,
		check: "extension", severity: Error, says: "version 0.0.9, this courier is 0.1.0", remedy: "ALTER EXTENSION pg_courier UPDATE",
		undo: "UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'pg_courier'"},
	{name: "other program", plant: func(_ *testing.T, r *rig) { r.config.Version = "0.1.7" },
		check: "extension", severity: Warning, says: "this courier is 0.1.7",
		undo: "SELECT 1"},
	{name: "password where others can read it", plant: func(_ *testing.T, r *rig) {
		r.config.Warnings = []string{"the command line is shown to all"}
		r.config.Databases[0].DSN += " password='" + pgtest.Password + "'"
	}, check: "password", severity: Warning, says: "command line", remedy: "pgpass", undo: "SELECT 1"},
	{name: "unencrypted over a network", plant: func(_ *testing.T, r *rig) { r.config.distant = true },
		check: "tls", severity: Warning, says: "not encrypted", undo: "SELECT 1"},
	{name: "dead letters", source: `ALTER EXTENSION pg_courier DROP VIEW courier.dead_letter; ALTER VIEW courier.dead_letter RENAME TO kept;
			CREATE VIEW courier.dead_letter AS SELECT 'to_eu'::name AS subscription_name, state FROM (VALUES ('open'), ('open'), ('discarded')) v (state)`,
		check: "dead-letters", severity: Warning, says: "2 dead letters", remedy: "retry_dead_letter",
		undo: `DROP VIEW courier.dead_letter; ALTER VIEW courier.kept RENAME TO dead_letter; ALTER EXTENSION pg_courier ADD VIEW courier.dead_letter`},
	{name: "encodings differ", plant: func(t *testing.T, r *rig) {
		r.target.Exec(t, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
		r.onSource("SELECT courier.create_node('latin', $1)", r.target.DSNAs("latin", pgtest.PasswordRole, pgtest.Password))
		r.target.Exec(t, "postgres", "GRANT CREATE ON DATABASE latin TO courier_remote")
	}, check: "encoding", severity: Warning, says: "UTF8 on the source and LATIN1 on the node", undo: "SELECT courier.drop_node('latin')"},
	{name: "the node is the source", plant: func(_ *testing.T, r *rig) {
		r.onSource("SELECT courier.create_node('self', $1)", r.source.DSN("app"))
	}, check: "node-identity", severity: Error, says: "this very database", undo: "SELECT courier.drop_node('self')"},
	{name: "no server", source: `INSERT INTO courier.node VALUES ('gone', 'courier_gone', false)`,
		check: "user-mapping", severity: Error, says: "foreign server courier_gone does not exist", undo: "SELECT courier.drop_node('gone')"},
	{name: "no user mapping", source: `CREATE SERVER bare FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '127.0.0.1'); SELECT courier.create_node('bare', server => 'bare')`,
		check: "user-mapping", severity: Error, says: "no user mapping", remedy: "CREATE USER MAPPING", undo: "SELECT courier.drop_node('bare'); DROP SERVER bare"},
}

func TestPlanted(t *testing.T) {
	r := start(t)
	healthy := r.config
	require.Equal(t, Healthy, r.run().ExitCode())
	for _, d := range defects {
		ok := t.Run(d.name, func(t *testing.T) {
			r.t = t
			r.config = healthy
			r.config.Databases = append([]Database(nil), healthy.Databases...)
			if d.source != "" {
				r.onSource(d.source)
			}
			if d.target != "" {
				r.onNode(d.target)
			}
			if d.plant != nil {
				d.plant(t, r)
			}
			report := r.run()
			found := findings(report, d.check)
			require.NotEmpty(t, found, report.Text(false, false))
			f := found[0]
			t.Log("\n" + report.Text(false, false))
			require.Equal(t, d.severity, f.Severity, f.Message)
			require.Equal(t, d.severity, report.Worst, "nothing else is worse")
			require.Equal(t, d.table, f.Table)
			require.Contains(t, f.Message, d.says)
			require.Contains(t, f.Remedy, d.remedy)
			if d.runOn != "" || d.undo == "" {
				require.Equal(t, d.runOn, f.RunOn)
				r.heal(f)
				for _, left := range findings(r.run(), d.check) {
					require.Less(t, left.Severity, f.Severity, "the remedy helps: %s; %s", f.Remedy, left.Message)
				}
			}
			// what the remedy leaves behind
			if d.undo != "" {
				for statement := range strings.SplitSeq(d.undo, "; ") {
					r.onSource(statement)
				}
			}
			if d.undoTarget != "" {
				r.onNode(d.undoTarget)
			}
			if d.check == "target-objects" {
				r.onSource("SELECT courier.ship('to_eu')") // makes what is missing
			}
			r.config = healthy
			report = r.run()
			require.Equal(t, Healthy, report.ExitCode(), report.Text(false, false))
		})
		if !ok {
			return // what is planted would be in the way of all that follow
		}
	}
}
