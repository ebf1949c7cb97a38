package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// mostMemory bounds every process that has to do with a large transaction, in kB.
const mostMemory = 200 * 1024

// mostFor is a closer bound, which finds in a smaller transaction what would grow
// with a larger one: PostgreSQL keeps some 12 bytes a row for its AFTER triggers,
// and nothing else may depend on the number of rows.
func mostFor(rows int) int { return min(mostMemory, 32*1024+20*rows/1024) }

// largeRows is the size of the large transaction: COURIER_TEST_ROWS, or one that
// is some hundred times a batch.
func largeRows(t *testing.T) int { return numberOf(t, "COURIER_TEST_ROWS", 300_000) }

// largePatience is how long the large transaction may take.
func largePatience(rows int) time.Duration {
	return patience + time.Duration(rows/10_000)*time.Second
}

// memoryWatch keeps the most private memory that each backend of both clusters
// was seen with, and what a reader of the target saw of the table meanwhile.
type memoryWatch struct {
	r      *replica
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	peaks  map[string]int // cluster and query → kB
	counts map[int64]int  // rows of the table on the target → times seen
	err    error
}

// watchMemory begins to watch. The count is a query for one number.
func (r *replica) watchMemory(count string) *memoryWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &memoryWatch{r: r, cancel: cancel, peaks: make(map[string]int), counts: make(map[int64]int)}
	w.done.Go(func() { w.keep(w.watchBackends(ctx)) })
	w.done.Go(func() { w.keep(w.watchCount(ctx, count)) })
	r.t.Cleanup(w.stop)
	return w
}

func (w *memoryWatch) stop() {
	w.cancel()
	w.done.Wait()
}

func (w *memoryWatch) keep(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// watchBackends looks every 50 ms, and for new backends every second look.
func (w *memoryWatch) watchBackends(ctx context.Context) error {
	pids := make(map[int]string)
	for look := 0; wait(ctx, 50*time.Millisecond); look++ {
		if look%2 == 0 {
			clear(pids)
			for name, postmaster := range map[string]int{
				"source": w.r.source.PostmasterPID(), "target": w.r.target.PostmasterPID()} {
				children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
				if err != nil {
					return fmt.Errorf("list the backends of the %s: %w", name, err)
				}
				for _, child := range strings.Fields(string(children)) {
					pid, err := strconv.Atoi(child)
					if err != nil {
						return fmt.Errorf("list the backends of the %s: %w", name, err)
					}
					pids[pid] = name
				}
			}
		}
		w.mu.Lock()
		for pid, name := range pids {
			// an error: it has ended
			if private, err := statusKB(pid, "RssAnon"); err == nil {
				key := fmt.Sprintf("%s, process %d", name, pid)
				w.peaks[key] = max(w.peaks[key], private)
			}
		}
		w.mu.Unlock()
	}
	return nil
}

func (w *memoryWatch) watchCount(ctx context.Context, count string) error {
	conn, err := w.r.target.Open(ctx, appDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for wait(ctx, 20*time.Millisecond) {
		var rows int64
		if err := conn.QueryRow(ctx, count).Scan(&rows); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("count on the target: %w", err)
		}
		w.mu.Lock()
		w.counts[rows]++
		w.mu.Unlock()
	}
	return nil
}

// seen waits until the reader of the target has seen so many rows.
func (w *memoryWatch) seen(rows int, within time.Duration) {
	w.r.t.Helper()
	deadline := time.Now().Add(within)
	for wait(w.r.t.Context(), 20*time.Millisecond) {
		w.mu.Lock()
		times, err := w.counts[int64(rows)], w.err
		w.mu.Unlock()
		require.NoError(w.r.t, err)
		if times > 0 {
			return
		}
		if time.Now().After(deadline) {
			w.r.t.Fatalf("the target did not show %d rows within %s; status: %v", rows, within, w.r.status())
		}
	}
}

// requireBounded ends the watch, and requires that no backend was seen with more
// than mostFor allows and that the target never showed a part of the rows.
func (w *memoryWatch) requireBounded(rows int) {
	t := w.r.t
	t.Helper()
	w.stop()
	require.NoError(t, w.err)
	require.NotEmpty(t, w.peaks)
	highest := 0
	for process, kB := range w.peaks {
		require.Less(t, kB, mostFor(rows), "private memory of %s", process)
		highest = max(highest, kB)
	}
	require.Positive(t, w.counts[0], "counts of the target before the rows had arrived: %v", w.counts)
	require.Positive(t, w.counts[int64(rows)], "counts of the target: %v", w.counts)
	require.Len(t, w.counts, 2, "the target showed a part of the transaction: %v", w.counts)
	require.Equal(t, "1", w.r.targetValue("SELECT count(DISTINCT xmin::text) FROM large"), "transactions on the target")
	t.Logf("%d rows; most private memory of a backend: %d kB; seen on the target: %v", rows, highest, w.counts)
}

// statusKB is a field of /proc/PID/status in kB.
func statusKB(pid int, name string) (int, error) {
	text, err := statusField(fmt.Sprintf("/proc/%d/status", pid), name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSuffix(text, " kB"))
}

const insertLarge = `INSERT INTO large SELECT i, md5(i::text), i %% 97, i * 1.5, now(), NULL FROM generate_series(1, %d) i`

// startLarge makes the table. Vacuum is kept away from the counts.
func startLarge(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth(`CREATE TABLE large (id int PRIMARY KEY, name text, quantity int, price numeric(12,2), at timestamptz, note text)
		WITH (autovacuum_enabled = off)`)
	r.add("default", "large")
	r.subscribe("{default}", false)
	return r
}

// One transaction of many rows goes through the sidecar in bounded memory, and is
// one transaction on the target.
func TestLargeTransactionBySidecar(t *testing.T) {
	rows := largeRows(t)
	r := startLarge(t)
	courier := r.startSidecar()
	r.wait()
	watch := r.watchMemory("SELECT count(*) FROM large")
	watch.seen(0, patience)
	r.runLong(fmt.Sprintf(insertLarge, rows), largePatience(rows))
	watch.seen(rows, largePatience(rows))
	peak, err := statusKB(courier.cmd.Process.Pid, "VmHWM")
	require.NoError(t, err)
	program, err := statusKB(courier.cmd.Process.Pid, "RssFile")
	require.NoError(t, err)
	watch.requireBounded(rows)
	require.Less(t, peak, mostMemory, "peak memory of the sidecar")
	require.Less(t, peak-program, mostFor(rows), "peak memory of the sidecar, without that of its program")
	t.Logf("peak memory of the sidecar: %d kB, of which its program %d kB", peak, program)
	r.wait()
	courier.stop()
	r.requireEqual("large")
}

// The same through a background worker.
func TestLargeTransactionByWorker(t *testing.T) {
	rows := largeRows(t)
	r := startLarge(t, pgtest.Preload(true))
	r.wait()
	watch := r.watchMemory("SELECT count(*) FROM large")
	watch.seen(0, patience)
	r.runLong(fmt.Sprintf(insertLarge, rows), largePatience(rows))
	watch.seen(rows, largePatience(rows))
	watch.requireBounded(rows)
	r.wait()
	r.requireEqual("large")
	require.Equal(t, "worker", r.status()["shipper"])
}

// The same through courier.ship(), in a backend.
func TestLargeTransactionBySession(t *testing.T) {
	rows := largeRows(t)
	r := startLarge(t)
	watch := r.watchMemory("SELECT count(*) FROM large")
	watch.seen(0, patience)
	r.runLong(fmt.Sprintf(insertLarge, rows), largePatience(rows))
	r.runLong("SELECT courier.ship('"+subscription+"')", largePatience(rows))
	watch.seen(rows, largePatience(rows))
	watch.requireBounded(rows)
	r.requireEqual("large")

	// changes of every row, and their end: nothing of it needs more
	r.runLong("UPDATE large SET note = 'changed', quantity = quantity + 1", largePatience(rows))
	changes := r.watchMemory("SELECT count(*) FROM large WHERE note = 'changed'")
	changes.seen(0, patience)
	r.runLong("SELECT courier.ship('"+subscription+"')", largePatience(rows))
	changes.seen(rows, largePatience(rows))
	changes.requireBounded(rows)
	r.requireEqual("large")
}

// runLong executes a statement on the source that may take long.
func (r *replica) runLong(sql string, within time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := r.source.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	require.NoError(r.t, err, sql)
}

// Plans of statements that name a table are kept for so many of them only.
func TestEnginePlansAreBounded(t *testing.T) {
	const tables = 100
	r := startReplica(t)
	r.onBoth(fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('CREATE TABLE plan_%%s (id int PRIMARY KEY)', i); END LOOP; END $$", tables))
	r.onSource("DO $$ BEGIN FOR i IN 1.." + fmt.Sprint(tables) + " LOOP EXECUTE format('INSERT INTO plan_%s VALUES (1)', i); END LOOP; END $$")
	r.onSource("SELECT courier.replication_set_add_all_tables('default', '{public}')")
	r.subscribe("{default}", true)
	b := connectBackend(t, r.source)
	b.exec("SELECT courier.ship($1)", subscription)
	var plans int
	require.NoError(t, b.conn.QueryRow(t.Context(),
		"SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource'").Scan(&plans))
	t.Logf("%d plans", plans)
	require.Less(t, plans, tables)
	r.requireEqual("plan_1", fmt.Sprintf("plan_%d", tables))
}
