package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	shortSoak   = 20 // seconds
	soakWriters = 6
	// soakPrepared is about how many transactions are prepared at a time. Each
	// keeps its segment, of which there are three.
	soakPrepared = 2
	// mostSoaked bounds the queue, and what the measurements put into it at a time.
	mostSoaked = mostQueued + 8<<20
	// mostCostly bounds what it costs to read a change at the end, as a multiple of
	// what it costs at the start.
	mostCostly = 1.2
	// mostAlone bounds the pages that are looked at to find and read a single one.
	mostAlone = 50
)

// soak is one run.
type soak struct {
	r *replica
	// spread has a longer run use more keys: with vacuum held back, each version
	// of a row is in the way of who looks for the next, here as there.
	spread int

	// pause is held, for reading, by those who write and for as long as they have
	// a transaction; who measures something holds it for writing.
	pause sync.RWMutex

	committed, retried, lost atomic.Int64 // transactions; lost: with their connection
	prepared, settled        atomic.Int64
	present                  atomic.Int64 // prepared now
	queued                   atomic.Int64 // largest size of the queue
	excess                   []string     // what it held, and why, when it was too large
}

// FAULTS: days of load, compressed by small segments: random writers of every
// isolation level, prepared transactions, kills of every kind of process on both
// sides, a sidecar that comes and goes, and vacuum held back from the first moment
// to the last. The target ends up equal; the queue and the small tables stay small,
// and reading a change costs what it has cost at the start.
func TestSoak(t *testing.T) {
	seed, length := randomSeed(t), time.Duration(numberOf(t, "COURIER_SOAK_SECONDS", shortSoak))*time.Second
	r := startReplica(t, pgtest.Preload(true), pgtest.Settings(map[string]string{
		"courier.segment_size": "64kB", "courier.segment_age": "1s",
		"deadlock_timeout": "20ms", "log_min_messages": "fatal", // errors are part of it
	}))
	r.onBoth(propertyTables)
	r.add("default", propertyKeyed...)
	r.addKeyless("journal")
	r.subscribe("{default,log}", false)
	sizes := map[string]func() int64{"courier_target.progress": watchSizes(t, r.target, "courier_target.progress")}
	for _, table := range []string{"subscription_state", "subscription_statistics", "table_statistics", "queue_current", "configuration"} {
		sizes["courier."+table] = watchSizes(t, r.source, "courier."+table)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	k := &soak{r: r, spread: int(length.Seconds()) / shortSoak}
	var background, writers sync.WaitGroup
	for _, cluster := range []*pgtest.Cluster{r.source, r.target} {
		holdVacuum(t, cluster)
		background.Go(func() { keepSnapshot(ctx, t, cluster) })
	}
	background.Go(func() { k.watchQueue(ctx) })
	background.Go(func() { k.settle(ctx, randomSource(seed, 1)) })
	ended := make(chan struct{})
	failures := make(chan error, soakWriters)
	for i := range soakWriters {
		writers.Go(func() {
			if err := k.write(ctx, i, seed, ended); err != nil {
				failures <- fmt.Errorf("writer %d: %w", i, err)
			}
		})
	}

	eventually(t, "the first rotations", func() bool {
		return r.sourceValue("SELECT truncations >= 3 FROM courier.queue_current") == "t"
	})
	atStart := k.readingCosts()
	killer := newKiller(r, randomSource(seed, 2), length)
	killer.killAll(time.Now().Add(length), func() bool { return len(failures) > 0 })
	atEnd := k.readingCosts()

	close(ended)
	writers.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	stop()
	background.Wait()
	k.settleAll()
	r.wait()
	r.requireEqual(append(slices.Clone(propertyKeyed), "journal")...)

	state := r.source.Query(t, appDatabase, "SELECT rotations, truncations, truncations >= 5 FROM courier.queue_current")[0]
	t.Logf("%d transactions committed, %d tried again, %d lost, %d prepared and %d of these settled meanwhile; %s rotations, %s segments emptied; queue at most %d kB",
		k.committed.Load(), k.retried.Load(), k.lost.Load(), k.prepared.Load(), k.settled.Load(), state[0], state[1], k.queued.Load()>>10)
	t.Logf("killed: %v", killer.kills)
	require.Equal(t, "t", state[2], "too few segments were emptied for this to mean something")
	require.Positive(t, k.settled.Load())
	require.Positive(t, k.lost.Load())
	require.Less(t, k.queued.Load(), int64(mostSoaked), "whatever the length of the run; %s", strings.Join(k.excess, "\n"))
	for table, largest := range sizes {
		size := largest()
		t.Logf("%s: at most %d kB", table, size>>10)
		require.Positive(t, size, table)
		require.Less(t, size, int64(mostSmall), table)
	}
	for i, what := range []string{"a change alone", "a change of many"} {
		t.Logf("to read %s, at the start %s; at the end %s", what, atStart[i], atEnd[i])
	}
	// That of one alone goes by how many segments are empty just then.
	require.Less(t, atEnd[0].pages, float64(mostAlone))
	require.Less(t, atEnd[1].pages, mostCostly*atStart[1].pages)
}

// persistently calls f again and again with a connection, and with another one
// when that is lost. Any other error is one of the test.
func persistently(ctx context.Context, t *testing.T, cluster *pgtest.Cluster, every time.Duration, f func(*pgx.Conn) error) {
	for wait(ctx, every) {
		conn, err := cluster.Open(ctx, appDatabase)
		if err != nil {
			continue // it has not recovered yet
		}
		for err = f(conn); err == nil && wait(ctx, every); err = f(conn) {
		}
		if err != nil && !conn.IsClosed() && ctx.Err() == nil {
			t.Error(err)
		}
		conn.Close(context.Background())
	}
}

// holdVacuum keeps vacuum from removing anything from now on, also when the server
// has crashed: a prepared transaction lives on.
func holdVacuum(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	cluster.Exec(t, appDatabase, "CREATE TABLE held (id int)")
	cluster.Exec(t, appDatabase, "BEGIN; INSERT INTO held VALUES (1); PREPARE TRANSACTION 'held'")
}

// keepSnapshot is a reader in one snapshot from the beginning, or from the server's
// last crash.
func keepSnapshot(ctx context.Context, t *testing.T, cluster *pgtest.Cluster) {
	var holder *pgx.Conn
	persistently(ctx, t, cluster, 50*time.Millisecond, func(conn *pgx.Conn) error {
		sql := "SELECT count(*) FROM journal"
		if conn != holder {
			sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; " + sql
			holder = conn
		}
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// watchQueue keeps the largest size of the queue. It calls for housekeeping much
// more often than those whose office it is, so that segments take turns quickly.
func (k *soak) watchQueue(ctx context.Context) {
	var last time.Time
	persistently(ctx, k.r.t, k.r.source, 20*time.Millisecond, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT courier.housekeep()"); err != nil {
			return fmt.Errorf("housekeep: %w", err)
		}
		var size int64
		if err := conn.QueryRow(ctx, "SELECT courier.queue_bytes()").Scan(&size); err != nil {
			return fmt.Errorf("look at the queue's size: %w", err)
		}
		k.queued.Store(max(k.queued.Load(), size))
		if size < mostSoaked || time.Since(last) < 5*time.Second {
			return nil
		}
		last = time.Now()
		var held string
		if err := conn.QueryRow(ctx, `SELECT string_agg(format('%s: %s bytes, %s changes, held by %s', segment, bytes, changes, held_by), '; ')
			|| (SELECT string_agg(format('; %s, %s pending, %s behind; %s', state, pending_changes, lag_time, last_error), '') FROM courier.subscription_status)
			FROM courier.queue_status`).Scan(&held); err != nil {
			return fmt.Errorf("look at what the queue holds: %w", err)
		}
		k.excess = append(k.excess, last.UTC().Format(time.TimeOnly)+" "+held)
		return nil
	})
}

// write runs random transactions until it has ended, over a connection that may be
// lost at any time; what became of the transaction under way is then anybody's
// guess.
func (k *soak) write(ctx context.Context, number int, seed uint64, ended <-chan struct{}) error {
	g := &generator{random: randomSource(seed, uint64(number)+10), spread: k.spread}
	for n := 0; !closed(ended); n++ {
		conn, err := k.r.source.Open(ctx, appDatabase)
		if err != nil {
			wait(ctx, 20*time.Millisecond) // it has not recovered yet
			continue
		}
		run := func(sql string) error {
			_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
			return err
		}
		// A prepared transaction may hold a row for long: give up and try another.
		err = run("SET application_name = '" + soakWriter + "'; SET lock_timeout = '100ms'")
		for ; !closed(ended) && err == nil; n++ {
			err = k.transaction(g, fmt.Sprintf("soak %d-%d", number, n), run)
			if passes(err) {
				k.retried.Add(1)
				err = run("ROLLBACK")
			}
			wait(ctx, between(g.random, time.Millisecond, 15*time.Millisecond))
		}
		lost := conn.IsClosed()
		conn.Close(context.Background())
		if err != nil && !lost {
			return err
		}
		if err != nil {
			k.lost.Add(1)
		}
	}
	return nil
}

// transaction runs one to its end, or prepares it for settle to end it.
func (k *soak) transaction(g *generator, token string, run func(sql string) error) error {
	k.pause.RLock()
	defer k.pause.RUnlock()
	tx := g.transaction(token)
	if err := run("BEGIN ISOLATION LEVEL " + tx.isolation); err != nil {
		return err
	}
	for _, sql := range tx.statements {
		if err := run(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	switch n := g.random.IntN(10); {
	case n == 0:
		return run("ROLLBACK")
	case n < 3 && k.present.Add(1) <= soakPrepared:
		k.prepared.Add(1)
		return run("PREPARE TRANSACTION '" + token + "'")
	}
	if err := run("COMMIT"); err != nil {
		return err
	}
	k.committed.Add(1)
	return nil
}

// settle ends prepared transactions, each after a while of its own. The server
// knows which there are: who has prepared one need not have lived to see it.
func (k *soak) settle(ctx context.Context, random interface{ IntN(int) int }) {
	persistently(ctx, k.r.t, k.r.source, 20*time.Millisecond, func(conn *pgx.Conn) error {
		k.pause.RLock()
		defer k.pause.RUnlock()
		rows, _ := conn.Query(ctx, `SELECT gid, pg_catalog.date_part('epoch', clock_timestamp() - prepared)
			FROM pg_prepared_xacts WHERE gid LIKE 'soak %'`)
		var gid string
		var age float64
		var due []string
		count := int64(0)
		_, err := pgx.ForEachRow(rows, []any{&gid, &age}, func() error {
			count++
			if age > 0.1 && random.IntN(10) == 0 || age > 2 {
				due = append(due, gid)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for prepared transactions: %w", err)
		}
		k.present.Store(count)
		for _, gid := range due {
			verb := []string{"COMMIT", "COMMIT", "ROLLBACK"}[random.IntN(3)]
			if _, err := conn.Exec(ctx, verb+" PREPARED "+quoted(gid)); err != nil {
				return fmt.Errorf("end a prepared transaction: %w", err)
			}
			k.settled.Add(1)
		}
		return nil
	})
}

// settleAll ends those that are still prepared.
func (k *soak) settleAll() {
	k.r.t.Helper()
	for _, row := range k.r.source.Query(k.r.t, appDatabase, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'soak %'") {
		k.r.onSource("COMMIT PREPARED " + quoted(row[0]))
	}
}
