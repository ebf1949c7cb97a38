package e2e

import (
	"os"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// What a node lacks of the tables is created, with types, sequences, indexes and
// constraints, and without the triggers of capture; what it has is left alone.
func TestSynchronizeStructure(t *testing.T) {
	r := startReplica(t)
	r.onSource(`CREATE SCHEMA "Shop's";
		CREATE TYPE "Shop's".mood AS ENUM ('sad', 'fine');
		CREATE TYPE "Shop's".size AS (width int, mood "Shop's".mood[]);
		CREATE DOMAIN "Shop's"."a code" AS text CHECK (VALUE <> '');
		CREATE SEQUENCE "Shop's"."free numbers";
		CREATE TABLE "Shop's".customer (id serial PRIMARY KEY, code "Shop's"."a code" UNIQUE, size "Shop's".size,
			number bigint DEFAULT nextval('"Shop''s"."free numbers"'), g int GENERATED ALWAYS AS (id * 2) STORED);
		CREATE TABLE "Shop's"."an order" (id int GENERATED ALWAYS AS IDENTITY, customer int NOT NULL REFERENCES "Shop's".customer,
			at date NOT NULL CHECK (at > '2000-01-01'), note text DEFAULT E'it''s\n--\n-- Name: x; Type: TABLE', PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
		CREATE TABLE "Shop's".low PARTITION OF "Shop's"."an order" FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
		CREATE TABLE "Shop's".high PARTITION OF "Shop's"."an order" FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
		CREATE INDEX "by note" ON "Shop's"."an order" (lower(note));
		CREATE INDEX partial ON "Shop's".customer (number) WHERE number > 5;
		CREATE TABLE "Shop's".there (id int PRIMARY KEY, v text UNIQUE);
		CREATE INDEX there_v ON "Shop's".there (v, id);
		CREATE TABLE "Shop's".other (id int PRIMARY KEY);
		CREATE FUNCTION "Shop's".touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER own BEFORE INSERT ON "Shop's".customer FOR EACH ROW EXECUTE FUNCTION "Shop's".touch();
		INSERT INTO "Shop's".customer (code, size) SELECT 'c' || i, ROW(i, '{fine,sad}'::"Shop's".mood[])::"Shop's".size FROM generate_series(1, 100) i;
		INSERT INTO "Shop's"."an order" (customer, at) SELECT i, date '2019-12-01' + i FROM generate_series(1, 100) i;
		INSERT INTO "Shop's".there VALUES (1, 'one')`)
	r.onTarget(`CREATE SCHEMA "Shop's"; CREATE TABLE "Shop's".there (id int PRIMARY KEY, v text, mine int)`)
	for _, table := range []string{`"Shop's".customer`, `"Shop's"."an order"`, `"Shop's".there`} {
		r.add("default", table)
	}
	r.onSource("SELECT courier.create_subscription($1, $2, synchronize_structure => true)", subscription, targetNode)
	courier := r.startSidecar()
	r.wait()
	r.requireEqual(`"Shop's".customer`, `"Shop's"."an order"`)
	require.Equal(t, "one", r.targetValue(`SELECT v FROM "Shop's".there`))
	const objects = `SELECT string_agg(o, E'\n' ORDER BY o COLLATE "C") FROM (
		SELECT relkind::text || ' ' || relname || coalesce(' ' || pg_get_indexdef(i.indexrelid), '') FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
		WHERE relnamespace = '"Shop''s"'::regnamespace AND relname <> 'other' AND relname <> 'other_pkey'
		UNION ALL SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
		WHERE connamespace = '"Shop''s"'::regnamespace AND conname <> 'other_pkey'
		UNION ALL SELECT adrelid::regclass::text || ' ' || adnum || ' ' || pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid::regclass::text LIKE '%Shop%'
		UNION ALL SELECT typtype::text || ' ' || typname FROM pg_type WHERE typnamespace = '"Shop''s"'::regnamespace AND typtype <> 'b' AND typname <> 'other'
		UNION ALL SELECT inhrelid::regclass::text || ' of ' || inhparent::regclass::text FROM pg_inherits WHERE inhrelid::regclass::text LIKE '%Shop%'
		UNION ALL SELECT 'serial ' || pg_get_serial_sequence('"Shop''s".customer', 'id')) AS x (o)`
	require.Equal(t, r.sourceValue(objects), r.targetValue(objects))
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"))
	require.Equal(t, "0", r.targetValue(`SELECT count(*) FROM pg_class WHERE relname = 'other'`))
	require.Equal(t, "id,v,mine", r.targetValue(`SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '"Shop''s".there'::regclass AND attnum > 0`))

	// and of a table that is added later
	r.add("default", `"Shop's".other`)
	r.onSource(`INSERT INTO "Shop's".other VALUES (1)`)
	r.wait()
	r.requireEqual(`"Shop's".other`)
	courier.stop()
}

// Without pg_dump or pg_restore the subscription stops and says so, with the place where
// it was looked for; also if it fails, with what it has said. Nothing is made on the node
// until it works.
func TestSynchronizeStructureWithoutPgDump(t *testing.T) {
	t.Parallel()
	r := startReplica(t, pgtest.Without("pg_dump", "pg_restore"))
	r.onSource("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)")
	r.add("default", "item")
	r.onSource("SELECT courier.create_subscription($1, $2, synchronize_structure => true)", subscription, targetNode)
	programs, err := pgtest.FindInstallation()
	require.NoError(t, err)
	for _, program := range []string{"pg_dump", "pg_restore"} {
		refused := r.refusedShip("58P01")
		found := regexp.MustCompile(`the program ` + program + ` is not there: "(/.*/` + program + `)"`).FindStringSubmatch(refused.Message)
		require.NotNil(t, found, refused.Message)
		require.Contains(t, refused.Hint, "Install the client programs of PostgreSQL")

		require.NoError(t, os.WriteFile(found[1], []byte("#!/bin/sh\necho out of paper >&2\nexit 3\n"), 0o755))
		refused = r.refusedShip("38000")
		require.Contains(t, refused.Message, program+" failed: child process exited with exit code 3")
		require.Contains(t, refused.Detail, "out of paper")
		require.Contains(t, refused.Hint, "as the role that initdb made")
		require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
		require.NoError(t, os.Remove(found[1]))
		require.NoError(t, os.Symlink(programs.Program(program), found[1]))
	}
	r.ship()
	r.requireEqual("item")
}

// So it does when the role may not create anything, or when something that is not
// synchronized is missing. Nothing is made on the node then.
func TestSynchronizeStructureRefused(t *testing.T) {
	t.Parallel()
	r := startPlain(t)
	const function = "CREATE FUNCTION next_code() RETURNS text LANGUAGE sql AS $$SELECT text 'c'$$"
	r.onSource(function + "; CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, code text DEFAULT next_code())")
	r.onTarget("REVOKE CREATE ON SCHEMA public FROM courier_remote")
	r.add("default", "plain", "item")
	r.onSource("SELECT courier.create_subscription($1, $2, synchronize_structure => true)", subscription, targetNode)
	refused := r.refusedShip("42501")
	require.Contains(t, refused.Message, "permission denied for schema public")
	require.Contains(t, refused.Hint, "Grant the role")
	r.onTarget("GRANT CREATE ON SCHEMA public TO courier_remote")
	refused = r.refusedShip("42883")
	require.Contains(t, refused.Message, "next_code()")
	require.Contains(t, refused.Hint, "functions are not synchronized")
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
	r.onTarget(function)
	r.ship()
	r.requireEqual("plain", "item")
}

// refusedShip ships, which must end with an error of that SQLSTATE.
func (r *replica) refusedShip(state string) *pgconn.PgError {
	r.t.Helper()
	conn := r.source.Connect(r.t, appDatabase)
	_, err := conn.Exec(r.t.Context(), "SELECT courier.ship($1)", subscription)
	return requireState(r.t, state, err)
}

// Commands that are queued run on the node before what it lacks is made there, which is
// as of the snapshot behind them; those that come behind that snapshot find it as they
// have found it here. So in a session, a sidecar and a worker.
func TestStructureBehindQueuedCommands(t *testing.T) {
	r := startBare(t, pgtest.Preload(true))
	r.install(r.target.DSN(appDatabase))
	r.onSource("CREATE TABLE blocker (id int); CREATE TABLE first (id int PRIMARY KEY); INSERT INTO first VALUES (1)")
	r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	r.add("default", "first")
	r.onSource(`SELECT courier.create_subscription($1, $2, synchronize_structure => true, options => '{"driver": "none"}')`, subscription, targetNode)
	r.ship()
	r.requireEqual("first")

	for _, home := range []string{"none", "sidecar", "worker"} {
		table := "made_by_" + home
		// what nobody has shipped yet when the table is found to be missing
		r.onSource(`SELECT courier.alter_subscription_options($1, '{"driver": "none"}')`, subscription)
		r.onSource("SELECT courier.replicate_ddl('CREATE TABLE public." + table + " (id int PRIMARY KEY, v text UNIQUE)')")
		r.onSource("ALTER TABLE first ADD COLUMN " + table + " int")
		r.onSource("CREATE TABLE not_" + table + " (id int PRIMARY KEY, v text); CREATE INDEX ON " + table + " (v, id)")
		r.onSource("INSERT INTO " + table + " VALUES (1, 'one'); INSERT INTO not_" + table + " VALUES (1, 'one')")
		r.add("default", table, "not_"+table)

		locker := r.source.Connect(t, appDatabase)
		_, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE blocker")
		require.NoError(t, err)
		shipped := make(chan error, 1)
		var courier *sidecar
		if home == "none" {
			conn := r.source.Connect(t, appDatabase)
			go func() {
				_, err := conn.Exec(t.Context(), "SELECT courier.ship($1)", subscription)
				shipped <- err
			}()
		} else {
			r.onSource("SELECT courier.alter_subscription_options($1, $2::text::jsonb)", subscription, `{"driver": "`+home+`"}`)
			shipped <- nil
			if home == "sidecar" {
				courier = r.startSidecar()
			}
		}
		r.source.Eventually(t, appDatabase, `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'`, "1", patience)
		r.onSource("ALTER TABLE not_" + table + " ADD COLUMN late int NOT NULL DEFAULT 7")
		_, err = locker.Exec(t.Context(), "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, <-shipped)
		if home == "none" {
			r.ship() // what came meanwhile
		} else {
			r.wait()
		}
		if courier != nil {
			courier.stop()
		}
		r.requireEqual("first", table, "not_"+table)
		require.Equal(t, "7", r.targetValue("SELECT late FROM not_"+table))
	}

	// DDL on what the node has never had can only be passed.
	r.onSource("CREATE TABLE early (id int PRIMARY KEY); SELECT courier.create_replication_set('more')")
	r.add("more", "early")
	r.onSource(`SELECT courier.create_subscription('second', $1, '{more}', synchronize_structure => true, options => '{"driver": "none"}')`, targetNode)
	r.onSource("SELECT courier.replicate_ddl('ALTER TABLE public.early ADD COLUMN v int', '{more}')")
	r.onSource("INSERT INTO early VALUES (1, 2)")
	r.onSource(`SELECT courier.alter_subscription_options('second', '{"driver": "sidecar"}')`)
	courier := r.startSidecar()
	const stop = "FROM courier.subscription_status WHERE subscription_name = 'second'"
	r.source.Eventually(t, appDatabase, "SELECT state || ' ' || last_error_sqlstate "+stop, "stopped 42P01", patience)
	hint := r.sourceValue("SELECT last_error_hint " + stop)
	require.Contains(t, hint, "created behind what is queued")
	r.onSource(regexp.MustCompile(`SELECT courier\.skip_transaction\([^)]*\)`).FindString(hint))
	r.source.Eventually(t, appDatabase, "SELECT state "+stop, "streaming", patience)
	courier.stop()
	r.requireEqual("early")
}
