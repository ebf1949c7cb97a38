package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// costRounds is how often a cost is measured; the median counts.
const costRounds = 5

// readingCost is what it costs a shipper's session to find and read changes, each.
type readingCost struct {
	pages float64
	cpu   time.Duration
}

// String says it in words.
func (c readingCost) String() string {
	return fmt.Sprintf("%.3f pages, %s of CPU", c.pages, c.cpu)
}

// readQueue is what a shipper asks for; see package queue.
const readQueue = `SELECT now, generation, last_xid, page, courier.still_holds(
		(SELECT subscription_id FROM courier.subscription WHERE subscription_name = 'to_eu'))
	FROM courier.next_page($1::pg_snapshot, 100000, 100000000, 0, 0)`

// readingCosts measures it, for a change alone and for many, while those who write
// pause: so it is known what is read, on top of what the queue holds anyhow.
func (k *soak) readingCosts() [2]readingCost {
	t := k.r.t
	t.Helper()
	k.pause.Lock()
	defer k.pause.Unlock()
	// Segments are not emptied while they are read in a transaction.
	reader := k.r.source.Connect(t, appDatabase)
	_, err := reader.Exec(t.Context(), "BEGIN; SELECT FROM courier.queue_0, courier.queue_1, courier.queue_2 LIMIT 0", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	defer reader.Close(context.Background())
	conn := k.r.source.Connect(t, appDatabase)
	return [2]readingCost{k.readingCost(conn, 1), k.readingCost(conn, 2000)}
}

func (k *soak) readingCost(conn *pgx.Conn, changes int) readingCost {
	k.r.t.Helper()
	var pages, cpu []float64
	for range costRounds {
		p, c := k.readOnce(conn, changes)
		pages, cpu = append(pages, p/float64(changes)), append(cpu, c/float64(changes))
	}
	slices.Sort(pages)
	slices.Sort(cpu)
	return readingCost{pages[costRounds/2], time.Duration(cpu[costRounds/2])}
}

// readOnce commits as many transactions, and gives the pages and the nanoseconds
// that it takes to read them.
func (k *soak) readOnce(conn *pgx.Conn, transactions int) (pages, nanoseconds float64) {
	t := k.r.t
	t.Helper()
	ctx := t.Context()
	var position string
	require.NoError(t, conn.QueryRow(ctx, "SELECT courier.position()::text").Scan(&position))
	_, err := conn.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		INSERT INTO journal VALUES ('cost', repeat('x', 100)); COMMIT; END LOOP; END $$`, transactions))
	require.NoError(t, err)
	var changes int
	require.NoError(t, conn.QueryRow(ctx, `SELECT sum(changes) FROM courier.queue_chunk
		WHERE NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)`, position).Scan(&changes))
	require.Equal(t, transactions, changes)

	var plan []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	read := strings.ReplaceAll(readQueue, "$1", quoted(position))
	for range 2 { // the first call fills the session's caches
		var text string
		require.NoError(t, conn.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+read).Scan(&text))
		require.NoError(t, json.Unmarshal([]byte(text), &plan))
	}
	times := 5 + 100/transactions
	before := k.onCPU(conn)
	for range times {
		_, err := conn.Exec(ctx, readQueue, position)
		require.NoError(t, err)
	}
	return float64(plan[0].Plan.Hit + plan[0].Plan.Read), float64(k.onCPU(conn)-before) / float64(times)
}

// onCPU is how many nanoseconds the backend of a connection has been running.
func (k *soak) onCPU(conn *pgx.Conn) int64 {
	k.r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", conn.PgConn().PID()))
	require.NoError(k.r.t, err)
	n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	require.NoError(k.r.t, err)
	return n
}
