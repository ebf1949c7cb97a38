package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// mostSmall bounds the tables that are updated with every batch, or every second.
const mostSmall = 1 << 20

// holdSnapshot opens a transaction that keeps vacuum from removing anything, until
// the test ends.
func holdSnapshot(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	conn := cluster.Connect(t, appDatabase)
	_, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
}

// watchSizes keeps the largest size that a table has had, indexes included, until
// stop, which gives it. The server may crash meanwhile.
func watchSizes(t *testing.T, cluster *pgtest.Cluster, relation string) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var largest atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		persistently(ctx, t, cluster, 20*time.Millisecond, func(conn *pgx.Conn) error {
			var size int64
			err := conn.QueryRow(ctx, "SELECT coalesce(pg_total_relation_size(to_regclass($1::text)), 0)", relation).Scan(&size)
			largest.Store(max(largest.Load(), size))
			return err
		})
	}()
	return func() int64 {
		cancel()
		<-done
		return largest.Load()
	}
}

// HAZARDS 13: thousands of batches while somebody holds a snapshot on either side.
// What is written with each of them stays small, and as quick to find.
func TestSmallTablesUnderSnapshot(t *testing.T) {
	const transactions = 4000
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.onSource("SELECT courier.create_subscription($1, $2, copy_data => false, options => '{\"batch_rows\": 1}')", subscription, targetNode)
	r.ship()
	holdSnapshot(t, r.source)
	holdSnapshot(t, r.target)
	atStart := r.pagesToFindProgress()

	progress := watchSizes(t, r.target, "courier_target.progress")
	state := watchSizes(t, r.source, "courier.subscription_state")
	statistics := watchSizes(t, r.source, "courier.subscription_statistics")
	tables := watchSizes(t, r.source, "courier.table_statistics")
	courier := r.startSidecar()
	r.onSource(fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP INSERT INTO item VALUES (i, 'x'); COMMIT; END LOOP; END $$", transactions))
	r.wait()
	// It is written anew a second later when it is being read just then.
	var atEnd int
	eventually(t, "the progress to be found as quickly as at the start", func() bool {
		atEnd = r.pagesToFindProgress()
		return atEnd < atStart+60
	})
	r.requireEqual("item")
	courier.stop()

	updates, err := strconv.Atoi(r.targetValue("SELECT split_part(position, ':', 2)::int8 FROM courier_target.progress"))
	require.NoError(t, err)
	require.Greater(t, updates, transactions)
	sizes := []int64{progress(), state(), statistics(), tables()}
	t.Logf("progress at most %d kB, subscription_state %d kB, statistics %d kB and %d kB; %d pages to find the progress at the start, %d at the end",
		sizes[0]>>10, sizes[1]>>10, sizes[2]>>10, sizes[3]>>10, atStart, atEnd)
	for _, size := range sizes {
		require.Less(t, size, int64(mostSmall))
	}
	require.Positive(t, sizes[0])
}

// pagesToFindProgress is how many pages the target reads to find a subscription's
// position, as each batch does.
func (r *replica) pagesToFindProgress() int {
	r.t.Helper()
	text := r.targetValue(`SET enable_seqscan = off; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
		SELECT position FROM courier_target.progress WHERE subscription = (SELECT subscription FROM courier_target.progress LIMIT 1)`)
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	require.NoError(r.t, json.Unmarshal([]byte(text), &plans))
	return plans[0].Plan.Hit + plans[0].Plan.Read
}
