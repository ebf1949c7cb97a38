package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// forNews waits longer than a test has patience: a wake-up that is lost shows as
// a test that hangs.
const forNews = "SELECT courier.wait_for_changes('1 h')"

// wakeups is how often a test wakes a waiter, usually; COURIER_TEST_WAKEUPS changes
// it.
func wakeups(t *testing.T, usually int) int { return numberOf(t, "COURIER_TEST_WAKEUPS", usually) }

// startEvents starts a cluster whose database app takes events.
func startEvents(t *testing.T, opts ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	c := pgtest.Start(t, append([]pgtest.Option{pgtest.Name("source"), pgtest.Setting("max_prepared_transactions", "4")}, opts...)...)
	c.Database(t, appDatabase)
	c.Exec(t, appDatabase, "CREATE EXTENSION pg_courier CASCADE")
	c.Query(t, appDatabase, "SELECT courier.set_local_node('here')")
	return c
}

// changed waits in a session.
func (b *backend) changed(timeout string) bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var changed bool
	require.NoError(b.t, b.conn.QueryRow(ctx, "SELECT courier.wait_for_changes($1::text::interval)", timeout).Scan(&changed))
	return changed
}

// Of thousands of commits none is missed by a session that waits for each, while
// others commit what is nobody's business; neither in a backend that has never
// shipped nor in one with the engine in it.
func TestNoWakeUpIsLost(t *testing.T) {
	for name, ships := range map[string]bool{"plain backend": false, "backend that has shipped": true} {
		t.Run(name, func(t *testing.T) {
			// nobody else ships, and waits for that
			r := startItems(t, pgtest.Preload(true), pgtest.Setting("courier.workers", "off"))
			waiter, writer, noise := connectBackend(t, r.source), connectBackend(t, r.source), connectBackend(t, r.source)
			if ships {
				writer.exec("INSERT INTO item VALUES (-1, 'first')")
				waiter.exec("SELECT courier.ship($1)", subscription)
				require.Contains(t, waiter.maps(), "pg_courier_engine")
			}
			stop := make(chan struct{})
			var group sync.WaitGroup
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						noise.exec("SELECT pg_current_xact_id()")
					}
				}
			})
			defer group.Wait()
			defer close(stop)

			require.False(t, waiter.changed("0"), "nothing was committed since the first call")
			rounds := wakeups(t, 10_000)
			if !ships {
				rounds /= 5
			}
			slowest, usual := time.Duration(0), 100*time.Microsecond
			for round := range rounds {
				// The commit falls before, into and behind the moment when the
				// waiter goes to sleep.
				start := time.Now()
				committed := writer.start("INSERT INTO item VALUES ($1, 'new')", round)
				for early := rand.N(2 * usual); time.Since(start) < early; {
				}
				done := waiter.start(forNews)
				require.NoError(t, <-committed)
				usual += (min(time.Since(start), time.Millisecond) - usual) / 16
				start = time.Now()
				select {
				case err := <-done:
					require.NoError(t, err)
				case <-time.After(patience):
					t.Fatalf("round %d: the commit did not wake the waiter", round)
				}
				slowest = max(slowest, time.Since(start))
			}
			t.Logf("slowest wake-up: %s", slowest)
			require.False(t, waiter.changed("0"), "each commit was reported once")
			if ships {
				waiter.exec("SELECT courier.ship($1)", subscription)
				r.requireEqual("item")
			}
		})
	}
}

// More sessions wait than there is room for: those beyond poll, and all of them
// hear of a commit. However they end, none leaves its place taken.
func TestManyWaiters(t *testing.T) {
	const room, sessions = 256, 270
	c := startEvents(t, pgtest.Preload(true), pgtest.Setting("courier.workers", "off"), pgtest.Setting("max_connections", strconv.Itoa(sessions+20)))
	backends := make([]*backend, sessions)
	for i := range backends {
		backends[i] = connectBackend(t, c)
		require.False(t, backends[i].changed("0"))
	}
	start := func() (done []<-chan error) {
		for _, b := range backends {
			done = append(done, b.start(forNews))
		}
		c.Eventually(t, appDatabase, "SELECT courier.waiters()", strconv.Itoa(room), patience)
		c.Eventually(t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1 h%' AND pid <> pg_backend_pid()",
			strconv.Itoa(sessions), patience)
		return done
	}

	done := start()
	c.Query(t, appDatabase, "SELECT courier.enqueue('a', 'b')")
	for i := range done {
		require.NoError(t, <-done[i], "waiter %d", i)
	}
	require.Equal(t, "0", c.Value(t, appDatabase, "SELECT courier.waiters()"))

	for _, b := range backends[:sessions/3] {
		b.exec("SET statement_timeout = '3 s'")
	}
	done = start()
	for _, b := range backends[sessions/3 : 2*sessions/3] {
		c.Query(t, appDatabase, fmt.Sprintf("SELECT pg_cancel_backend(%d)", b.pid))
	}
	for _, b := range backends[2*sessions/3:] {
		c.Query(t, appDatabase, fmt.Sprintf("SELECT pg_terminate_backend(%d)", b.pid))
	}
	for i := range done {
		state := "57014" // cancelled or timed out
		if i >= 2*sessions/3 {
			state = "57P01" // terminated
		}
		requireState(t, state, <-done[i])
	}
	c.Eventually(t, appDatabase, "SELECT courier.waiters()", "0", patience)
}

// What wakes, and what does not, is the same with and without preloading.
func TestWhatWakes(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			c := startEvents(t, pgtest.Preload(preload))
			other := c.Database(t, "other")
			c.Exec(t, "other", "CREATE EXTENSION pg_courier CASCADE")
			c.Exec(t, appDatabase, "CREATE TABLE plain (id int)")
			waiter, writer := connectBackend(t, c), connectBackend(t, c)
			const soon = "100 ms"
			require.NotEmpty(t, other)

			require.False(t, waiter.changed("0"), "the first call counts from its own beginning")
			writer.exec("SELECT courier.enqueue('a', 'b')")
			require.True(t, waiter.changed("0"), "committed between two calls")
			require.False(t, waiter.changed("0"))
			require.False(t, waiter.changed("-1 h"))

			writer.exec("INSERT INTO plain VALUES (1)")
			require.False(t, waiter.changed(soon), "a table that nobody subscribes to")
			writer.exec("BEGIN; SELECT courier.enqueue('a', 'b'); ROLLBACK")
			require.False(t, waiter.changed(soon), "rolled back")
			writer.exec("BEGIN; SAVEPOINT a; SELECT courier.enqueue('a', 'b'); ROLLBACK TO a; COMMIT")
			require.False(t, waiter.changed(soon), "rolled back to a savepoint")
			c.Query(t, "other", "SELECT courier.enqueue('a', 'b')")
			require.False(t, waiter.changed(soon), "another database")
			writer.exec("SELECT courier.create_replication_set('mine')")
			require.False(t, waiter.changed(soon), "the configuration")

			writer.exec("BEGIN; SELECT courier.enqueue('a', 'b'); PREPARE TRANSACTION 'p'")
			require.False(t, waiter.changed(soon), "prepared")
			done := waiter.start(forNews)
			writer.exec("COMMIT PREPARED 'p'")
			require.NoError(t, <-done, "prepared, then committed")
			require.False(t, waiter.changed("0"))

			// in the session's own transaction: heard of like any other
			waiter.exec("SELECT courier.enqueue('a', 'b')")
			require.True(t, waiter.changed("0"))

			waiter.exec("BEGIN ISOLATION LEVEL REPEATABLE READ")
			_, err := waiter.conn.Exec(t.Context(), forNews)
			requireState(t, "25000", err)
		})
	}
}
