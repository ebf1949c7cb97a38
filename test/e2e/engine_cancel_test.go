package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// backlogRows is enough for a ship() that still runs when it is ended.
const backlogRows = 300_000

// ending is a way to end a running ship() from outside.
type ending struct {
	name string
	// timeout is what statement_timeout of the shipping session is set to.
	timeout string
	end     string // executed by another session, with the backend's pid; "" for none
	state   string // SQLSTATE of the statement
	lives   bool   // the backend outlives it
}

var endings = []ending{
	{name: "cancel", timeout: "0", end: "SELECT pg_cancel_backend($1)", state: "57014", lives: true},
	{name: "statement_timeout", timeout: "1s", state: "57014", lives: true},
	{name: "terminate", timeout: "0", end: "SELECT pg_terminate_backend($1)", state: "57P01"},
}

// A ship() that waits for the target ends within a second when it is told to. The
// target's session may commit what was sent after nobody waits for it any more:
// that is found out by the next ship(), which delivers everything once.
func TestEndShipThatWaits(t *testing.T) {
	t.Parallel()
	r := startItems(t)
	r.onSource("INSERT INTO item SELECT i, 'new' FROM generate_series(1, 100) i")
	r.ship()
	for _, ending := range endings {
		for _, commits := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, lock released first: %t", ending.name, commits), func(t *testing.T) {
				locker := r.target.Connect(t, appDatabase)
				_, err := locker.Exec(t.Context(), "BEGIN; SELECT FROM item WHERE id = 50 FOR UPDATE")
				require.NoError(t, err)
				r.onSource("INSERT INTO journal SELECT i, 'once' FROM generate_series(1, 10) i")
				r.onSource("UPDATE item SET name = name || '+'")

				b := connectBackend(t, r.source)
				r.endShip(t, b, ending, r.awaitBlocked)

				release := func() {
					_, err := locker.Exec(t.Context(), "ROLLBACK")
					require.NoError(t, err)
				}
				if !commits {
					// the target notices by itself that nobody is there
					r.target.Eventually(t, appDatabase,
						"SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0", "0", patience)
				}
				release()
				r.shipAgain(t, b, ending)
			})
		}
	}
}

// The same while the engine reads, renders and sends a large backlog.
func TestEndShipOfBacklog(t *testing.T) {
	r := startItems(t)
	id := 0
	for _, ending := range endings {
		if ending.end == "" {
			ending.timeout = "250ms" // the backlog does not take a second
		}
		t.Run(ending.name, func(t *testing.T) {
			before := r.targetValue("SELECT count(*) FROM item")
			r.onSource(fmt.Sprintf(`DO $$ BEGIN
				FOR i IN 1 .. %d / 1000 LOOP
					INSERT INTO item SELECT n, 'new' FROM generate_series(%d + i * 1000, %d + i * 1000 + 999) n;
					INSERT INTO journal VALUES (i, '%s');
					COMMIT;
				END LOOP;
			END $$`, backlogRows, id, id, ending.name))
			id += backlogRows
			b := connectBackend(t, r.source)
			r.endShip(t, b, ending, func() {
				eventually(t, "the first rows to arrive", func() bool {
					return r.targetValue("SELECT count(*) FROM item") != before
				})
			})
			r.shipAgain(t, b, ending)
		})
	}
}

// endShip starts a ship() that takes long, ends it once it is under way, and
// requires that it is over promptly, and as it should be.
func (r *replica) endShip(t *testing.T, b *backend, ending ending, underWay func()) {
	t.Helper()
	other := connectBackend(t, r.source)
	b.exec("SELECT set_config('statement_timeout', $1, false)", ending.timeout)
	started := time.Now()
	done := b.start("SELECT courier.ship($1)", subscription)
	underWay()
	due := time.Now()
	if ending.end == "" {
		timeout, err := time.ParseDuration(ending.timeout)
		require.NoError(t, err)
		due = started.Add(timeout)
	} else {
		other.exec(ending.end, b.pid)
	}
	select {
	case err := <-done:
		took := time.Since(due)
		requireState(t, ending.state, err)
		require.Less(t, took, promptly, "time to the end of ship()")
		t.Logf("ended after %s", took.Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Fatal("ship() did not end within 10 s")
	}
}

// shipAgain delivers what is left, in the same session if it lives, and compares
// both sides.
func (r *replica) shipAgain(t *testing.T, b *backend, ending ending) {
	t.Helper()
	if ending.lives {
		b.exec("RESET statement_timeout")
		b.exec("SELECT count(*) FROM item")
	} else {
		r.source.Eventually(t, appDatabase,
			fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d", b.pid), "0", patience)
		b = connectBackend(t, r.source)
	}
	// A batch that the target is still busy with holds the progress row, which
	// makes the next one wait or find itself overtaken; it never fails.
	b.exec("SELECT courier.ship($1)", subscription)
	r.requireEqual("item", "journal")
	b.exec("INSERT INTO journal VALUES (0, $1)", ending.name)
	b.exec("SELECT courier.ship($1)", subscription)
	r.requireEqual("item", "journal")
}

// A cancel that comes at any moment of many short ship() calls leaves session and
// server usable and loses or doubles nothing.
func TestCancelShipAtAnyMoment(t *testing.T) {
	const rounds = 60
	r := startItems(t)
	random := randomSource(randomSeed(t), 1)
	b := connectBackend(t, r.source)
	other := connectBackend(t, r.source)
	started := r.sourceValue("SELECT pg_postmaster_start_time()")
	// how long one takes that nobody disturbs
	b.exec("INSERT INTO item SELECT i, 'new' FROM generate_series(1, 2000) i")
	begun := time.Now()
	b.exec("SELECT courier.ship($1)", subscription)
	usual := max(time.Since(begun), 10*time.Millisecond)

	cancelled := 0
	for round := range rounds {
		b.exec("UPDATE item SET name = name || '.' WHERE id % 3 = $1::int % 3", round)
		b.exec("INSERT INTO journal SELECT i, 'once' FROM generate_series(1, 50) i")
		done := b.start("SELECT courier.ship($1)", subscription)
		require.True(t, wait(t.Context(), between(random, 0, usual)))
		other.exec("SELECT pg_cancel_backend($1)", b.pid)
		err := <-done
		if err != nil {
			requireState(t, "57014", err)
			cancelled++
		}
		// one that came late may hit this
		require.Eventually(t, func() bool {
			_, err := b.conn.Exec(t.Context(), "SELECT 1")
			var pgErr *pgconn.PgError
			return err == nil || !errors.As(err, &pgErr) || pgErr.Code != "57014"
		}, patience, time.Millisecond)
	}
	t.Logf("%d of %d calls were cancelled", cancelled, rounds)
	require.Positive(t, cancelled)
	b.exec("SELECT courier.ship($1)", subscription)
	r.requireEqual("item", "journal")
	require.Equal(t, started, r.sourceValue("SELECT pg_postmaster_start_time()"), "the server was not restarted")
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()", "0", patience)
}

// What was cancelled inside a transaction can be rolled back to a savepoint, and
// tried again in it.
func TestCancelShipInsideTransaction(t *testing.T) {
	r := startItems(t)
	r.onSource("INSERT INTO item SELECT i, 'new' FROM generate_series(1, 10) i")
	r.ship()
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; SELECT FROM item WHERE id = 5 FOR UPDATE")
	require.NoError(t, err)
	r.onSource("UPDATE item SET name = 'changed'; INSERT INTO journal VALUES (1, 'once')")

	b := connectBackend(t, r.source)
	other := connectBackend(t, r.source)
	b.exec("BEGIN; INSERT INTO item VALUES (11, 'of this transaction'); SAVEPOINT a")
	done := b.start("SELECT courier.ship($1)", subscription)
	r.awaitBlocked()
	other.exec("SELECT pg_cancel_backend($1)", b.pid)
	requireState(t, "57014", <-done)
	b.exec("ROLLBACK TO a")
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	b.exec("SELECT courier.ship($1)", subscription)
	require.Equal(t, "changed", r.targetValue("SELECT DISTINCT name FROM item"))
	b.exec("COMMIT")
	b.exec("SELECT courier.ship($1)", subscription)
	r.requireEqual("item", "journal")
}
