package e2e

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
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
