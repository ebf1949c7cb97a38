package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// The last subscription of a node takes the bookkeeping there along, but not that
// of another one which begins at the same moment.
func TestLastSubscriptionEndsAsAnotherBegins(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.ship()
	other := r.target.Connect(t, appDatabase) // another source's
	_, err := other.Exec(context.Background(), `BEGIN; INSERT INTO courier_target.progress
		SELECT gen_random_uuid(), 'other', source_system, position, source_timeline, source_flushed FROM courier_target.progress`,
		pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)

	var dropping sync.WaitGroup
	dropping.Go(func() {
		err = r.source.Run(context.Background(), appDatabase, "SELECT courier.drop_subscription($1)", subscription)
	})
	eventually(t, "the end to wait for the other", func() bool { return r.targetValue(waiters) == "1" })
	_, committed := other.Exec(context.Background(), "COMMIT")
	dropping.Wait()
	require.NoError(t, committed)
	require.NoError(t, err)
	require.Equal(t, "other", r.targetValue("SELECT string_agg(source_node, ',') FROM courier_target.progress"))
}

// And one that has found the bookkeeping there makes it anew when the last other
// subscription takes it along before it is used.
func TestSubscriptionBeginsAsTheLastEnds(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY)")
	r.add("default", "item")
	r.onSource("SELECT courier.create_subscription('last', $1, copy_data => false)", targetNode)
	r.onSource("SELECT courier.ship('last')")
	r.subscribe("{default}", false)
	ending := r.target.Connect(t, appDatabase) // what the end of the last one does
	_, err := ending.Exec(context.Background(), `BEGIN; LOCK TABLE courier_target.progress IN ACCESS EXCLUSIVE MODE`,
		pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	r.onSource("INSERT INTO item VALUES (1)")
	var beginning sync.WaitGroup
	beginning.Go(func() {
		err = r.source.Run(context.Background(), appDatabase, "SELECT courier.ship($1)", subscription)
	})
	eventually(t, "the beginning to wait for the end", func() bool { return r.targetValue(waiters) == "1" })
	_, ended := ending.Exec(context.Background(), "DROP SCHEMA courier_target CASCADE; COMMIT", pgx.QueryExecModeSimpleProtocol)
	beginning.Wait()
	require.NoError(t, ended)
	require.NoError(t, err)
	r.requireEqual("item")
}

// A subscription ends while its node is down, in the midst of a copy, too. What the
// warning says to run there later takes its bookkeeping away and brings the indexes back.
func TestSubscriptionEndsWhileTheNodeIsDown(t *testing.T) {
	t.Parallel()
	r := startSlowCopy(t, 1000, `, "copy_indexes": "rebuild"`)
	r.onTarget("CREATE INDEX item_n ON item (n)")
	courier := r.startSidecar()
	eventually(t, "a copy that has begun", func() bool {
		return r.targetValue("SELECT count(*) FROM pg_class WHERE relname = 'item_n'") == "0"
	})
	courier.kill9()
	require.NoError(t, r.target.Stop(pgtest.Fast))

	config, err := pgx.ParseConfig(r.source.DSN(appDatabase))
	require.NoError(t, err)
	var warnings []*pgconn.Notice
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { warnings = append(warnings, notice) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "SELECT courier.drop_subscription($1)", subscription)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0].Message, `subscription "to_eu" is dropped here, but node "eu" still has its bookkeeping`)
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.subscription"))

	require.NoError(t, r.target.Start(t.Context()))
	_, statements, found := strings.Cut(warnings[0].Hint, "run there: ")
	require.True(t, found, warnings[0].Hint)
	statements, last, found := strings.Cut(statements, "and, if progress is empty then, ")
	require.True(t, found, warnings[0].Hint)
	r.onTarget(statements)
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM pg_class WHERE relname = 'item_n'"))
	require.Equal(t, "0", r.targetValue(`SELECT sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %I.%I', schemaname, tablename), false, true, '')))[1]::text::int)
		FROM pg_tables WHERE schemaname = 'courier_target'`), "rows of bookkeeping")
	r.onTarget(last)
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_namespace WHERE nspname = 'courier_target'"))
}
