package e2e

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// startToBeCopied is startReplica with a table, some of whose rows are shipped and
// some queued.
func startToBeCopied(t *testing.T) *replica {
	t.Helper()
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.onSource("INSERT INTO item VALUES (1, 'there before')")
	r.subscribe("{default}", true)
	r.ship()
	r.onSource("INSERT INTO item VALUES (2, 'queued')")
	return r
}

// requireRefused makes sure that neither a session nor a sidecar ships from the copy
// of the source, where a row is written, and that the source is as it was.
func (r *replica) requireRefused(copied, sqlstate, reason string) {
	r.t.Helper()
	r.source.Exec(r.t, copied, "INSERT INTO item VALUES (10, 'of the copy')")
	err := r.source.Run(r.t.Context(), copied, "SELECT courier.ship($1)", subscription)
	requireState(r.t, sqlstate, err)
	require.ErrorContains(r.t, err, reason)
	courier := r.startSidecarFor([]string{r.source.DSN(copied), r.source.DSN(appDatabase)})
	r.wait()
	r.requireEqual("item")
	require.Equal(r.t, "2", r.targetValue("SELECT count(*) FROM item"), "rows of the copy")
	courier.stop()
}

// FAULTS: node cloned. The clone has the configuration and the queue of the source,
// and is told by the target's progress that it is somebody else.
func TestSourceCloned(t *testing.T) {
	t.Parallel()
	r := startToBeCopied(t)
	r.source.Exec(t, "postgres", "CREATE DATABASE clone TEMPLATE "+appDatabase)
	r.requireRefused("clone", "55000", "belongs to another source")
	require.Equal(t, "needs_resync", r.source.Value(t, "clone", "SELECT state FROM courier.subscription_status"))
}

// FAULTS: pg_dump and restore of a database with the extension. The configuration
// comes back; the subscription is disabled, and stays so until it is made anew.
func TestSourceDumpedAndRestored(t *testing.T) {
	t.Parallel()
	r := startToBeCopied(t)
	r.source.Database(t, "restored")
	programs, err := pgtest.FindInstallation()
	require.NoError(t, err)
	dump, err := exec.Command(programs.Program("pg_dump"), r.source.DSN(appDatabase)).Output()
	require.NoError(t, err)
	load := exec.Command(programs.Program("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", r.source.DSN("restored"))
	load.Stdin = bytes.NewReader(dump)
	output, err := load.CombinedOutput()
	require.NoError(t, err, string(output))

	const configuration = `SELECT concat_ws(' ', (SELECT string_agg(node_name, ',') FROM courier.node),
		(SELECT string_agg(set_name || ':' || relation::text, ',') FROM courier.replication_set_table),
		(SELECT string_agg(subscription_name || ':' || node_name || ':' || replication_sets::text, ',') FROM courier.subscription))`
	require.Equal(t, r.sourceValue(configuration), r.source.Value(t, "restored", configuration))
	require.Equal(t, "disabled", r.source.Value(t, "restored", "SELECT state FROM courier.subscription_status"))
	r.requireRefused("restored", "55000", "is disabled")
	err = r.source.Run(t.Context(), "restored", "SELECT courier.alter_subscription_enable($1)", subscription)
	require.ErrorContains(t, err, "has no starting position in this database")

	r.onSource("SELECT courier.drop_subscription($1)", subscription)
	r.onTarget("TRUNCATE item")
	r.source.Exec(t, "restored", "SELECT courier.drop_subscription($1)", subscription)
	r.source.Exec(t, "restored", "SELECT courier.create_subscription($1, $2, copy_data => true)", subscription, targetNode)
	r.source.Exec(t, "restored", "INSERT INTO item VALUES (11, 'of the copy')")
	r.source.Exec(t, "restored", "SELECT courier.ship($1)", subscription)
	require.Equal(t, "1,2,10,11", r.targetValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM item"))
}
