package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// A standby takes no rows of courier.copy_table(), nor does a table while the server
// has no worker left. Either is said before anything is written, with what to do.
func TestCopyTableRefused(t *testing.T) {
	t.Parallel()
	r := startReplica(t, pgtest.Settings(map[string]string{
		"max_worker_processes": "2", // the launcher of logical replication is one
		"courier.workers":      "off",
	}))
	standby := pgtest.Start(t, pgtest.Name("standby"), pgtest.StandbyOf(r.target), pgtest.Setting("max_prepared_transactions", "64"))
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
	r.onSource("INSERT INTO item SELECT generate_series(1, 10)")
	standby.Eventually(t, appDatabase, "SELECT to_regclass('other') IS NOT NULL", "t", patience)
	r.onSource("SELECT courier.create_node('standby', dsn => $1)", standby.DSN(appDatabase))
	copyTo := func(node, table string) error {
		return r.source.Run(t.Context(), appDatabase, "SELECT courier.copy_table('"+node+"', 'item', '"+table+"', '{\"direction\": \"push\"}')")
	}

	refused := requireState(t, "25006", copyTo("standby", "item"))
	require.Equal(t, `rows cannot be copied into public.item on node "standby": that is a standby`, refused.Message)
	require.Equal(t, "Point the node to its primary with ALTER SERVER.", refused.Hint)
	r.onSource("SELECT courier.drop_node('standby')")

	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE item")
	require.NoError(t, err)
	first := make(chan error, 1)
	go func() { first <- copyTo(targetNode, "item") }()
	r.source.Eventually(t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier copy worker'", "1", patience)
	refused = requireState(t, "53400", copyTo(targetNode, "other"))
	require.Equal(t, "no background worker is left to copy the table", refused.Message)
	require.Contains(t, refused.Hint, "max_worker_processes")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, <-first)
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM other"))
	require.NoError(t, copyTo(targetNode, "other"))
	r.requireEqual("item")
}
