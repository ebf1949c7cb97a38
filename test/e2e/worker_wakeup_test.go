package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buildPatientEngine builds an engine that does not ask its worker to call again
// unless there is news: the worker's own timers would hide a wake-up that is lost.
func buildPatientEngine(t *testing.T, dir string) string {
	t.Helper()
	const file, timer = "worker.go", "return w.shipper.Idle()"
	source, err := os.ReadFile(filepath.Join(engineSource, file))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), timer))
	return buildEngine(t, dir, file, strings.Replace(string(source), timer, "return time.Hour", 1))
}

// HAZARDS 2: of thousands of commits each wakes the ship worker, which has Go in it,
// while others commit what is nobody's business.
func TestNoWakeUpOfWorkerIsLost(t *testing.T) {
	r := startWorkers(t)
	r.onTarget(`CREATE FUNCTION arrived() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_catalog.pg_notify('arrived', NEW.id::pg_catalog.text); RETURN NULL; END $$;
		CREATE TRIGGER arrived AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION arrived();
		ALTER TABLE item ENABLE ALWAYS TRIGGER arrived`)
	listener := connectBackend(t, r.target)
	listener.exec("LISTEN arrived")
	w := &wokenWorker{r: r, listener: listener, sight: connectBackend(t, r.source), arrivals: make(chan int, 1)}
	w.replace(buildPatientEngine(t, r.source.Dir))

	writer, noise := connectBackend(t, r.source), connectBackend(t, r.source)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		for ctx.Err() == nil {
			noise.exec("SELECT pg_current_xact_id()")
		}
	})
	group.Go(func() { w.listen(ctx) })

	slowest, usual := time.Duration(0), time.Millisecond
	rounds := wakeups(t, 4000)
	for round := range rounds {
		// The commit falls before, into and behind the moment when the worker,
		// which has just applied the last one, goes to sleep.
		start := time.Now()
		for early := rand.N(usual); time.Since(start) < early; {
		}
		start = time.Now()
		size := 10
		if round%50 == 0 {
			size = 100_000 // something to do for Go's collector
		}
		writer.exec("INSERT INTO item VALUES ($1, repeat('x', $2::int))", round, size)
		w.await(round)
		took := time.Since(start)
		slowest = max(slowest, took)
		usual += (min(took, 5*time.Millisecond) - usual) / 16
	}
	t.Logf("%d wake-ups, a row usually arrives after %s, the slowest after %s", rounds, usual, slowest)
	require.Equal(t, strconv.Itoa(w.pid), strconv.Itoa(r.shipWorker().pid), "it is the same worker")
	r.requireEqual("item")
}

// wokenWorker is the ship worker, and what tells that it was woken.
type wokenWorker struct {
	r               *replica
	pid             int
	listener, sight *backend
	arrivals        chan int
}

// replace has a new worker ship, with another engine.
func (w *wokenWorker) replace(engine string) {
	w.r.t.Helper()
	old := w.r.shipWorker().pid
	w.r.source.Exec(w.r.t, "postgres", "ALTER SYSTEM SET courier.engine_library = '"+engine+"'")
	w.r.source.Exec(w.r.t, "postgres", "SELECT pg_reload_conf()")
	w.r.onSource("SELECT pg_terminate_backend($1::text::int)", fmt.Sprint(old))
	w.r.source.Eventually(w.r.t, "postgres", fmt.Sprintf(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier ship worker' AND state = 'idle' AND pid <> %d", old), "1", workerPatience)
	b := w.r.shipWorker()
	w.pid = b.pid
	eventually(w.r.t, "the other engine", func() bool { return strings.Contains(b.maps(), filepath.Base(engine)) })
}

// listen hands on which rows have arrived.
func (w *wokenWorker) listen(ctx context.Context) {
	for {
		n, err := w.listener.conn.WaitForNotification(ctx)
		if err != nil {
			return
		}
		id, err := strconv.Atoi(n.Payload)
		if err != nil {
			w.r.t.Errorf("a row arrived: %v", err)
			return
		}
		w.arrivals <- id
	}
}

// await waits for a row to arrive. A worker that sleeps while there is something
// for it to do was not woken; that it only takes its time is seen to be otherwise.
func (w *wokenWorker) await(id int) {
	w.r.t.Helper()
	deadline := time.Now().Add(patience)
	asleep := 0
	for {
		select {
		case arrived := <-w.arrivals:
			require.Equal(w.r.t, id, arrived)
			return
		case <-time.After(50 * time.Millisecond):
		}
		require.True(w.r.t, time.Now().Before(deadline), "row %d has not arrived", id)
		if asleep++; !w.sleeps() {
			asleep = 0
		}
		if asleep >= 3 && w.r.targetValue(fmt.Sprintf("SELECT count(*) FROM item WHERE id = %d", id)) == "0" && w.sleeps() {
			w.r.t.Fatalf("row %d was committed, and the worker sleeps", id)
		}
	}
}

// sleeps says that the worker's process sleeps, and waits for changes.
func (w *wokenWorker) sleeps() bool {
	w.r.t.Helper()
	var idle bool
	require.NoError(w.r.t, w.sight.conn.QueryRow(w.r.t.Context(),
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'idle')", w.pid).Scan(&idle))
	state, err := statusField(fmt.Sprintf("/proc/%d/status", w.pid), "State")
	require.NoError(w.r.t, err)
	return idle && strings.HasPrefix(state, "S")
}
