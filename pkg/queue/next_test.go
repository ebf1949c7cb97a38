package queue

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// patience bounds every wait for something that has to happen.
const patience = time.Minute

// reader follows the queue of a database.
type reader struct {
	t          *testing.T
	cluster    *pgtest.Cluster
	session    *session.PGX
	at         change.Snapshot
	generation int64
}

func startReader(t *testing.T, preload bool) *reader {
	t.Helper()
	c := pgtest.Start(t, pgtest.Preload(preload))
	c.Database(t, "app")
	c.Exec(t, "app", "CREATE EXTENSION pg_courier CASCADE")
	s, err := session.Connect(t.Context(), c.SocketDSN("app"))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	r := &reader{t: t, cluster: c, session: s}
	at, _, err := session.Value(t.Context(), s, "SELECT courier.position()")
	require.NoError(t, err)
	r.at, err = change.ParseSnapshot(at)
	require.NoError(t, err)
	_, r.generation, err = Next(t.Context(), s, 0, r.at, 0, 0)
	require.NoError(t, err)
	return r
}

// next waits for the next interval, and goes on behind it.
func (r *reader) next(wait time.Duration) *Interval {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	interval, generation, err := Next(ctx, r.session, 0, r.at, r.generation, wait)
	require.NoError(r.t, err)
	r.generation = generation
	if interval != nil {
		r.at = interval.End
	}
	return interval
}

// TestNextMissesNothing: thousands of times in a row a commit arrives before,
// while and after the server goes to sleep on behalf of the reader.
func TestNextMissesNothing(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReader(t, preload)
			writer := r.cluster.Connect(t, "app")
			rounds := 5000
			if !preload {
				rounds = 300 // it polls
			}
			usual := 100 * time.Microsecond
			for round := range rounds {
				start := time.Now()
				committed := make(chan error, 1)
				go func() {
					_, err := writer.Exec(t.Context(), "SELECT courier.enqueue('a', 'b')")
					committed <- err
				}()
				for early := rand.N(2 * usual); time.Since(start) < early; {
				}
				interval := r.next(time.Hour)
				require.NoError(t, <-committed)
				usual += (min(time.Since(start), time.Millisecond) - usual) / 16
				require.NotNil(t, interval, "round %d", round)
				pages := interval.Pages(t.Context(), r.session, false)
				page, err := pages.Next(t.Context())
				pages.Close()
				require.NoError(t, err)
				require.True(t, page.Last)
				require.Len(t, page.Chunks, 1)
				require.Greater(t, page.Flushed.Location, page.Chunks[0].K)
				require.Nil(t, r.next(0))
			}
		})
	}
}

// TestNextReturns: when there is nothing to read it comes back after the time it
// was given, and at once when the configuration changes.
func TestNextReturns(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReader(t, preload)
			started := time.Now()
			require.Nil(t, r.next(50*time.Millisecond))
			require.GreaterOrEqual(t, time.Since(started), 50*time.Millisecond)

			known := r.generation
			changed := make(chan struct{})
			go func() {
				defer close(changed)
				r.cluster.Eventually(t, "app", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'", "1", patience)
				r.cluster.Query(t, "app", "SELECT courier.create_replication_set('mine')")
			}()
			require.Nil(t, r.next(time.Hour))
			require.Greater(t, r.generation, known)
			<-changed
			require.Nil(t, r.next(0))

			// a large interval is read to its end
			r.cluster.Query(t, "app", "SELECT courier.enqueue('a', repeat('b', 7000)) FROM generate_series(1, 1000)")
			interval := r.next(time.Hour)
			require.NotNil(t, interval)
			require.Len(t, r.chunks(interval), 1000)

			// nor does one wait in a snapshot of the past
			require.NoError(t, r.session.Pinned(t.Context(), nil, func() error {
				require.Nil(t, r.next(0))
				r.cluster.Query(t, "app", "SELECT courier.enqueue('a', 'b')")
				require.Nil(t, r.next(time.Hour))
				return nil
			}))
			require.NotNil(t, r.next(0))
		})
	}
}

// chunks reads an interval to its end.
func (r *reader) chunks(interval *Interval) (all []Chunk) {
	r.t.Helper()
	pages := interval.Pages(r.t.Context(), r.session, true)
	defer pages.Close()
	for last := false; !last; {
		page, err := pages.Next(r.t.Context())
		require.NoError(r.t, err)
		all, last = append(all, page.Chunks...), page.Last
	}
	return all
}
