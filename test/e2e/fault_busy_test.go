package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// FAULTS: deadlock, lock timeout, serialization failure. What the node gives up so
// that others go on is tried again whole, though the subscription would set aside
// what a node refuses; until then nothing of it is there.
func TestFaultTargetBusy(t *testing.T) {
	t.Parallel()
	r := startReplica(t, pgtest.Setting("deadlock_timeout", "3s"))
	r.onBoth("CREATE TABLE first (id int PRIMARY KEY, v int); CREATE TABLE item (id int PRIMARY KEY, v int)")
	r.onTarget(`CREATE TABLE fault (sqlstate text);
		CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF EXISTS (SELECT FROM public.fault) THEN
				RAISE 'not now' USING ERRCODE = (SELECT sqlstate FROM public.fault);
			END IF;
			RETURN new;
		END $$;
		CREATE TRIGGER give_up BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION give_up();
		ALTER TABLE item ENABLE ALWAYS TRIGGER give_up`)
	r.add("default", "first", "item")
	r.onSource("SELECT courier.create_subscription($1, $2, copy_data => false, options => $3)",
		subscription, targetNode, `{"on_error": "dead_letter"}`)
	courier := r.startSidecar()
	r.onSource("INSERT INTO item SELECT i, 0 FROM generate_series(1, 3) i")
	r.wait()
	retrying := func(sqlstate string) {
		t.Helper()
		eventually(t, "an attempt that ends with "+sqlstate, func() bool {
			status := r.status()
			return status["state"] == "retrying" && status["last_error_sqlstate"] == sqlstate
		})
		require.Equal(t, "0", r.targetValue("SELECT count(*) FROM first"), "a part of the transaction")
	}
	change := func() {
		t.Helper()
		r.onSource("BEGIN; DELETE FROM first; INSERT INTO first VALUES (1, 1); UPDATE item SET v = v + 1; COMMIT")
	}
	arrives := func() {
		t.Helper()
		r.wait()
		r.requireEqual("first", "item")
		r.onSource("DELETE FROM first")
		r.wait()
	}

	for _, sqlstate := range []string{"40001", "40P01", "55P03"} {
		r.onTarget("INSERT INTO fault VALUES ($1)", sqlstate)
		change()
		retrying(sqlstate)
		r.onTarget("DELETE FROM fault")
		arrives()
	}

	// A deadlock with a session of the node that has all the patience.
	other := r.target.Connect(t, appDatabase)
	execute := func(sql string) {
		t.Helper()
		_, err := other.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	execute("SET deadlock_timeout = '10min'")
	execute("BEGIN; LOCK TABLE first IN EXCLUSIVE MODE")
	change()
	r.target.Eventually(t, appDatabase, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'first'::regclass", "t", patience)
	execute("LOCK TABLE item IN EXCLUSIVE MODE") // until the other side has given up
	execute("ROLLBACK")
	arrives()
	r.target.Eventually(t, appDatabase, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", "1", patience)
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dead_letter"))
	courier.stop()
}
