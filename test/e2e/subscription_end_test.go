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
