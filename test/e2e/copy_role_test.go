package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An administrator who is no superuser copies, in either direction, and imports,
// with a role of the node that has a password and the privileges that are
// documented; what is made here is his own.
func TestCopyTableAsMember(t *testing.T) {
	r := startPlain(t)
	r.onSource("CREATE EXTENSION postgres_fdw; CREATE ROLE clerk LOGIN; GRANT postgres TO clerk")
	r.onSource("CREATE SCHEMA staging AUTHORIZATION clerk")
	const table = "CREATE TABLE item (id int PRIMARY KEY, name text); "
	const rows = "INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) i"
	r.onTargetAsRole(table + rows)
	r.onTargetAsRole("CREATE TABLE back (id int, name text)")
	r.onTarget("CREATE TABLE secret (id int PRIMARY KEY)")

	conn := r.source.Connect(t, appDatabase)
	run := func(sql string) error {
		_, err := conn.Exec(t.Context(), sql)
		return err
	}
	require.NoError(t, run("SET ROLE clerk"))
	require.NoError(t, run("SELECT courier.copy_table('eu', 'item', 'staging.item')"))
	require.Equal(t, "clerk", r.sourceValue("SELECT relowner::regrole FROM pg_class WHERE oid = 'staging.item'::regclass"))
	require.NoError(t, run("SELECT courier.copy_table('eu', 'staging.item', 'back', '{\"chunk_rows\": 300}')"))
	require.Equal(t, "1000", r.targetValue("SELECT count(*) FROM back"))
	r.onSource("CREATE ROLE owner SUPERUSER; ALTER FOREIGN DATA WRAPPER postgres_fdw OWNER TO owner; REVOKE ALL ON FOREIGN DATA WRAPPER postgres_fdw FROM postgres")
	refused := requireState(t, "42501", run("SELECT courier.import_tables('eu', 'public', 'staging', '{back}')"))
	require.Contains(t, refused.Message, `server of postgres_fdw for node "eu" could not be made: permission denied`)
	grant, _, _ := strings.Cut(strings.TrimPrefix(refused.Hint, "Run "), ".")
	r.onSource(grant)
	require.NoError(t, run("SELECT courier.import_tables('eu', 'public', 'staging', '{back}')"))
	require.NoError(t, run("SELECT count(*) FROM staging.back"))

	err := run("SELECT courier.copy_table('eu', 'secret', 'staging.secret')")
	require.ErrorContains(t, err, `permission denied for table secret on node "eu"`)
	require.Equal(t, "f", r.sourceValue("SELECT to_regclass('staging.secret') IS NOT NULL"))
	r.onSource("CREATE ROLE other; CREATE TABLE staging.mine (id int PRIMARY KEY, name text); INSERT INTO staging.mine VALUES (7, 'kept'); ALTER TABLE staging.mine OWNER TO other; GRANT SELECT ON staging.mine TO clerk")
	err = run("SELECT courier.copy_table('eu', 'item', 'staging.mine', '{\"on_existing\": \"truncate\"}')")
	require.Contains(t, requireState(t, "42501", err).Hint, "GRANT INSERT, TRUNCATE ON staging.mine TO clerk;")
	r.onSource("CREATE SCHEMA theirs AUTHORIZATION other; GRANT USAGE ON SCHEMA theirs TO clerk")
	err = run("SELECT courier.copy_table('eu', 'item', 'theirs.item')")
	require.Contains(t, requireState(t, "42501", err).Hint, "GRANT USAGE, CREATE ON SCHEMA theirs TO clerk.")
	require.Equal(t, "kept", r.sourceValue("SELECT name FROM staging.mine"))
	r.onSource("CREATE TABLE unread (id int PRIMARY KEY); INSERT INTO unread VALUES (1); ALTER TABLE unread OWNER TO other")
	r.onTargetAsRole("CREATE TABLE unread (id int PRIMARY KEY)")
	r.add("default", "unread")
	r.subscribe("{default}", true)
	refused = requireState(t, "42501", run("SELECT courier.ship('to_eu')"))
	require.Contains(t, refused.Message, "role clerk may not read the table here")
	require.Contains(t, refused.Hint, "GRANT SELECT ON public.unread TO clerk;")
	r.onSource("GRANT SELECT ON unread TO clerk")
	require.NoError(t, run("SELECT courier.ship('to_eu')"))
	r.requireEqual("unread")
	r.onSource("REVOKE SELECT ON unread FROM clerk")
	for _, function := range []string{"compare", "repair"} {
		refused = requireState(t, "42501", run("SELECT * FROM courier."+function+"('to_eu')"))
		require.Equal(t, "role clerk may not read table public.unread", refused.Message)
		require.Equal(t, "Run here: GRANT SELECT ON public.unread TO clerk.", refused.Hint)
	}
	r.onSource("GRANT SELECT ON unread TO clerk")
	require.NoError(t, run("SELECT * FROM courier.compare('to_eu')"))
	require.NotContains(t, r.source.LogTail(1<<20), "correct horse")
	require.NotContains(t, r.target.LogTail(1<<20), "correct horse")
}
