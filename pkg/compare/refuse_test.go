package compare

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// A comparison does not wait for changes that nobody ships, and a repair not for long
// for rows that others have locked; each says what to do, after which it works.
func TestWaitsInVain(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Setting("courier.workers", "off"))
	dsn, node := cluster.Database(t, "source"), cluster.Database(t, "node")
	for _, database := range []string{"source", "node"} {
		cluster.Exec(t, database, "CREATE TABLE item (id int PRIMARY KEY, v text)")
	}
	source := func(sql string, args ...any) {
		t.Helper()
		cluster.Exec(t, "source", sql, args...)
	}
	source("CREATE EXTENSION pg_courier CASCADE; SELECT courier.replication_set_add_table('default', 'item')")
	source("SELECT courier.create_node('eu', $1)", node)
	source("SELECT courier.create_subscription('s', 'eu', copy_data => false)")
	source("SELECT courier.ship('s')")
	compare := func(repair Repair) ([]Table, error) {
		t.Helper()
		conn, err := session.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		return Run(t.Context(), Config{Session: conn, Subscription: "s", Repair: repair, MaxKeys: 10, Unshipped: time.Millisecond})
	}
	var refused *session.Error

	source("INSERT INTO item VALUES (1, 'here'), (2, 'here')")
	_, err := compare(Nothing)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, `nobody ships subscription "s"`, refused.Message)
	require.Equal(t, "Start courier run, or SELECT courier.ship('s'), and run it again.", refused.Hint)
	source("SELECT courier.ship('s')")
	answers, err := compare(Nothing)
	require.NoError(t, err)
	require.Zero(t, answers[0].Differences())

	cluster.Exec(t, "node", "UPDATE item SET v = 'there' WHERE id = 2")
	locker := cluster.Connect(t, "source")
	_, err = locker.Exec(t.Context(), "BEGIN; SELECT FROM item WHERE id = 2 FOR UPDATE")
	require.NoError(t, err)
	queued := cluster.Value(t, "source", "SELECT count(*) FROM courier.queue_chunk")
	_, err = compare(Resend)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "55P03", refused.SQLState)
	require.Equal(t, "rows of table public.item can't be shipped again now, because others have locked them or the table", refused.Message)
	require.Contains(t, refused.Hint, "Run it again when their transactions have ended")
	require.Equal(t, queued, cluster.Value(t, "source", "SELECT count(*) FROM courier.queue_chunk"))
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	answers, err = compare(Resend)
	require.NoError(t, err)
	require.EqualValues(t, 1, answers[0].Resent)
	source("SELECT courier.ship('s')")
	require.Equal(t, "here", cluster.Value(t, "node", "SELECT v FROM item WHERE id = 2"))
}
