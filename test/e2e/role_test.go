package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// familyTables hang together by foreign keys, by name in the wrong order: the
// parents come last.
const familyTables = `
CREATE TABLE z_parent (id int PRIMARY KEY, name text);
CREATE TABLE m_child (id int PRIMARY KEY, parent int NOT NULL REFERENCES z_parent ON DELETE CASCADE, name text);
CREATE TABLE a_grandchild (id int PRIMARY KEY, child int NOT NULL REFERENCES m_child, parent int REFERENCES z_parent);`

// startPlain is a replica whose target is reached as a role with a password that
// owns the database's tables, and nothing else.
func startPlain(t *testing.T) *replica {
	t.Helper()
	r := startBare(t)
	r.onTarget("GRANT CREATE ON DATABASE app TO courier_remote; GRANT CREATE ON SCHEMA public TO courier_remote")
	r.install(r.target.DSNAs(appDatabase, pgtest.PasswordRole, pgtest.Password))
	return r
}

// onTargetAsRole makes the target's tables the role's.
func (r *replica) onTargetAsRole(sql string) {
	r.t.Helper()
	r.onTarget("SET ROLE courier_remote; " + sql)
}

// A login that acts as another role is not shown its own backend in
// pg_stat_activity.
func TestLoginActsAsAnotherRole(t *testing.T) {
	r := startBare(t)
	r.onTarget(`CREATE ROLE data_owner; GRANT data_owner TO courier_remote;
		GRANT CREATE ON DATABASE app TO data_owner; GRANT CREATE ON SCHEMA public TO data_owner`)
	r.install(r.target.DSNAs(appDatabase, pgtest.PasswordRole, pgtest.Password) + " options='-c role=data_owner'")
	const table = "CREATE TABLE owned (id int PRIMARY KEY, v text)"
	r.onSource(table)
	r.onTarget("SET ROLE data_owner; " + table)
	r.add("default", "owned")
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.onSource("INSERT INTO owned VALUES (1, 'one')")
	r.wait()
	r.requireEqual("owned")
	courier.stop()
}

// A role that may not set session_replication_role applies with the foreign keys
// in force: parents before children, and children before parents to delete.
func TestPlainRoleForeignKeys(t *testing.T) {
	t.Parallel()
	r := startPlain(t)
	r.onSource(familyTables)
	r.onTargetAsRole(familyTables)
	require.Equal(t, "f", r.targetValue("SELECT rolsuper FROM pg_roles WHERE rolname = 'courier_remote'"))
	r.onSource(`INSERT INTO z_parent SELECT i, 'p' FROM generate_series(1, 200) i;
		INSERT INTO m_child SELECT i, 1 + i % 200, 'c' FROM generate_series(1, 600) i;
		INSERT INTO a_grandchild SELECT i, 1 + i % 600, 1 + i % 200 FROM generate_series(1, 900) i`)
	r.add("default", "a_grandchild", "m_child", "z_parent")
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.wait()
	tables := []string{"z_parent", "m_child", "a_grandchild"}
	r.requireEqual(tables...)

	// of one batch: new families, and old ones that go with all they have
	r.onSource(`BEGIN;
		INSERT INTO z_parent SELECT i, 'new' FROM generate_series(1001, 1100) i;
		INSERT INTO m_child SELECT i, i, 'new' FROM generate_series(1001, 1100) i;
		INSERT INTO a_grandchild SELECT i, i, i FROM generate_series(1001, 1100) i;
		DELETE FROM a_grandchild WHERE child IN (SELECT id FROM m_child WHERE parent <= 50) OR parent <= 50;
		DELETE FROM z_parent WHERE id <= 50;
		COMMIT`)
	r.wait()
	r.requireEqual(tables...)

	// children change to a new parent, and the old one goes
	r.onSource(`BEGIN;
		INSERT INTO z_parent VALUES (2000, 'adopts');
		UPDATE m_child SET parent = 2000 WHERE parent = 60;
		UPDATE a_grandchild SET parent = 2000 WHERE parent = 60;
		DELETE FROM z_parent WHERE id = 60;
		COMMIT`)
	r.onSource("UPDATE z_parent SET id = id + 10000 WHERE id IN (SELECT id FROM z_parent EXCEPT SELECT parent FROM m_child EXCEPT SELECT parent FROM a_grandchild)")
	r.wait()
	r.requireEqual(tables...)
	require.NotEqual(t, "0", r.targetValue("SELECT count(*) FROM m_child WHERE parent = 2000"))
	courier.stop()
}

// A role that lacks a privilege stops the subscription, which says what to do,
// and which goes on by itself when that is done.
func TestPlainRoleLacksPrivilege(t *testing.T) {
	t.Parallel()
	r := startPlain(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.onTarget("GRANT SELECT, INSERT ON item TO courier_remote") // the superuser's
	r.onSource("INSERT INTO item SELECT i, 'before' FROM generate_series(1, 10) i")
	r.add("default", "item")
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.wait()

	r.onSource("UPDATE item SET name = 'changed' WHERE id = 3; INSERT INTO item VALUES (11, 'waits as well')")
	r.source.Eventually(t, appDatabase, "SELECT state || ' ' || last_error_sqlstate FROM courier.subscription_status",
		"stopped 42501", patience)
	status := r.status()
	require.Contains(t, status["last_error"], "item")
	require.Contains(t, status["last_error_hint"], "Grant")
	require.Contains(t, status["last_error_hint"], targetNode)
	require.Equal(t, "10", r.targetValue("SELECT count(*) FROM item"))

	r.onTarget("GRANT UPDATE, DELETE ON item TO courier_remote")
	r.source.Eventually(t, appDatabase, "SELECT state FROM courier.subscription_status", "streaming", patience)
	r.wait()
	r.requireEqual("item")
	courier.stop()
}

// The same before anything was copied: the role may not even make the schema for
// the bookkeeping.
func TestPlainRoleMayNotCreateSchema(t *testing.T) {
	r := startPlain(t)
	r.onTarget("REVOKE CREATE ON DATABASE app FROM courier_remote")
	r.onSource("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'one')")
	r.onTargetAsRole("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.source.Eventually(t, appDatabase, `SELECT state || ' ' || last_error_sqlstate || ' ' || (last_error_hint LIKE '%GRANT CREATE ON DATABASE%')
		FROM courier.subscription_status`, "stopped 42501 true", patience)
	r.onTarget("GRANT CREATE ON DATABASE app TO courier_remote")
	r.source.Eventually(t, appDatabase, "SELECT state FROM courier.subscription_status", "streaming", patience)
	r.wait()
	r.requireEqual("item")
	courier.stop()
}
