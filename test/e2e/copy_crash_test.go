package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// crashTables are what testdata/copy_crash.sql writes to.
const crashTables = `
CREATE TABLE item (id int PRIMARY KEY, v int NOT NULL, filler text);
CREATE TABLE doc (id int PRIMARY KEY, n int NOT NULL, body text);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
CREATE TABLE pair (a int, b int, code bigint NOT NULL UNIQUE, PRIMARY KEY (a, b));`

// A copy of three tables under write load ends equal, whoever of those who have a
// part in it is killed, at whatever moment; and no chunk that was noted is copied
// again, so what a crash costs are the chunks in flight.
func TestCopyCrash(t *testing.T) {
	rows, rounds := numberOf(t, "COURIER_TEST_COPY_ROWS", 30_000), numberOf(t, "COURIER_TEST_COPY_ROUNDS", 3)
	random := randomSource(randomSeed(t), 0)
	r := startReplica(t, pgtest.Preload(true))
	r.onBoth(crashTables)
	docs := rows / 10
	r.onSource(fmt.Sprintf("INSERT INTO item SELECT i, 0, repeat('f', 80) FROM generate_series(1, %d) i", rows))
	// room in the pages that are copied first, for rows that move
	r.onSource(fmt.Sprintf("INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 80) FROM generate_series(%d, %d) i", 1-docs, docs))
	r.onSource("DELETE FROM doc WHERE id < 1")
	r.onSource("VACUUM doc")
	r.onSource(fmt.Sprintf("INSERT INTO pair SELECT i, 1, i FROM generate_series(1, %d) i", rows))
	r.add("default", "item", "doc", "pair")
	// slow enough for the kills to fall into the copy
	rate := rows * 1200 / 1024 / (2 + rounds)
	r.onSource(fmt.Sprintf(`SELECT courier.create_subscription('%s', '%s', enabled => false, options => '{"copy_rate": %d, "copy_workers": 3}')`,
		subscription, targetNode, max(rate, 1)))
	work := r.startLoad(time.Hour, true, "-c", "3", "-D", fmt.Sprintf("rows=%d", rows), "-f", "testdata/copy_crash.sql")
	eventually(t, "the load to begin", func() bool { return r.sourceValue("SELECT count(*) > 100 FROM item WHERE v > 0") == "t" })

	courier := r.startSidecar()
	r.onSource("SELECT courier.alter_subscription_enable($1)", subscription)
	chunks := r.watchChunks()
	eventually(t, "the first chunks", func() bool { return chunks.seen() > 0 })
	killed := make(map[string]int)
	for range rounds {
		victim := []string{"sidecar", "worker", "target", "source"}[random.IntN(4)]
		wait(t.Context(), between(random, 0, 800*time.Millisecond))
		courier = r.kill(victim, courier, random)
		killed[victim]++
	}
	t.Logf("killed: %v; noted chunks that were seen: %d", killed, chunks.seen())
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": null}')`, subscription)
	within(t, patience+time.Duration(rows)*200*time.Microsecond, "the copy to end", func() bool {
		return r.sourceValue("SELECT count(*) FROM courier.copy_status WHERE state = 'copied'") == "3"
	})
	require.False(t, work.ended(), "the copy was not under load")
	chunks.stop()
	work.abort()
	r.wait()
	r.requireEqual("item", "doc", "pair")
	require.Equal(t, "streaming", r.sourceValue("SELECT state FROM courier.subscription_status"))
	require.Equal(t, "0 0 0", r.targetValue("SELECT (SELECT count(*) FROM courier_target.copying) || ' ' || "+
		"(SELECT count(*) FROM courier_target.copied_chunk) || ' ' || (SELECT count(*) FROM courier_target.missed_row)"))
	courier.stop()
}

// kill kills one of those who have a part in shipping, and has it back.
func (r *replica) kill(victim string, courier *sidecar, random *rand.Rand) *sidecar {
	r.t.Helper()
	switch victim {
	case "sidecar":
		courier.kill9()
		wait(r.t.Context(), between(random, 0, 500*time.Millisecond)) // a worker takes over, or not
		return r.startSidecar()
	case "worker":
		// The server takes that for a crash of its own.
		pid := r.sourceValue("SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'pg_courier ship worker'")
		if n, err := strconv.Atoi(pid); err == nil && n > 0 {
			require.NoError(r.t, syscall.Kill(n, syscall.SIGKILL))
		}
		eventually(r.t, "the source to be back", func() bool { return r.isGone(pid) })
	case "target":
		require.NoError(r.t, r.target.Kill9())
		require.NoError(r.t, r.target.Start(r.t.Context()))
	case "source":
		require.NoError(r.t, r.source.Kill9())
		require.NoError(r.t, r.source.Start(r.t.Context()))
	}
	return courier
}

// isGone reports whether the source is up and does not have a process.
func (r *replica) isGone(pid string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := r.source.Open(ctx, "postgres")
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	var gone bool
	err = conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid::text = $1)", pid).Scan(&gone)
	return err == nil && gone
}

// chunkWatch remembers the chunks that the target was seen to have noted.
type chunkWatch struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	noted map[string]string // chunk → when it was copied
	again []string
}

// watchChunks looks at the target's notes; the target may go away.
func (r *replica) watchChunks() *chunkWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &chunkWatch{t: r.t, cancel: cancel, done: make(chan struct{}), noted: make(map[string]string)}
	go func() {
		defer close(w.done)
		for wait(ctx, 30*time.Millisecond) {
			conn, err := r.target.Open(ctx, appDatabase)
			for err == nil {
				err = w.look(ctx, conn)
				wait(ctx, 30*time.Millisecond)
			}
			if conn != nil {
				conn.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	r.t.Cleanup(func() { cancel(); <-w.done })
	return w
}

func (w *chunkWatch) look(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT concat_ws(' ', relation, leaf, filenode, from_block, to_block), copied_at::text FROM courier_target.copied_chunk")
	if err != nil {
		return err
	}
	type chunk struct{ Name, At string }
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[chunk])
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range list {
		if at := w.noted[c.Name]; at != "" && at != c.At {
			w.again = append(w.again, c.Name)
		}
		w.noted[c.Name] = c.At
	}
	return err
}

func (w *chunkWatch) seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.noted)
}

// stop ends the watch; no chunk may have been copied again.
func (w *chunkWatch) stop() {
	w.t.Helper()
	w.cancel()
	<-w.done
	require.Empty(w.t, w.again, "chunks that were copied again")
}
