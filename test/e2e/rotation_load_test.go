package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	rotationSessions = 6
	// mostQueued bounds the queue of the load below, whose transactions are small
	// and are shipped as they come but for the moments when nobody does.
	mostQueued = 24 << 20
)

// FAULTS: writers of every isolation level and prepared transactions across many
// rotations, a snapshot held throughout on both sides, readers that lock segments,
// a sidecar that is killed again and again. The target ends up equal, and the queue
// and the small tables stay small.
func TestRotationUnderLoad(t *testing.T) {
	seed := randomSeed(t)
	r := startReplica(t, pgtest.Settings(map[string]string{
		"courier.segment_size": "64kB", "courier.segment_age": "1s",
		"deadlock_timeout": "20ms", "log_min_messages": "fatal", // errors are part of it
	}))
	r.onBoth(propertyTables)
	r.add("default", propertyKeyed...)
	r.addKeyless("journal")
	r.subscribe("{default,log}", false)
	holdSnapshot(t, r.source)
	holdSnapshot(t, r.target)
	// Few are prepared at a time: each keeps its segment.
	p := &property{r: r, shelf: shelf{random: randomSource(seed, 0), reserved: shelfSize - 2}}
	sizes := map[string]func() int64{
		"courier_target.progress":         watchSizes(t, r.target, "courier_target.progress"),
		"courier.subscription_state":      watchSizes(t, r.source, "courier.subscription_state"),
		"courier.subscription_statistics": watchSizes(t, r.source, "courier.subscription_statistics"),
		"courier.table_statistics":        watchSizes(t, r.source, "courier.table_statistics"),
		"courier.queue_current":           watchSizes(t, r.source, "courier.queue_current"),
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var background, sessions sync.WaitGroup
	background.Go(func() { p.countPositions(ctx) })
	var queued atomic.Int64
	background.Go(func() { r.keepHouse(ctx, &queued) })
	background.Go(func() { r.readSegments(ctx, randomSource(seed, 1)) })

	end := time.Now().Add(loadTime(t))
	over := func() bool { return time.Now().After(end) }
	failures := make(chan error, rotationSessions)
	for i := range rotationSessions {
		sessions.Go(func() {
			if err := p.session(ctx, i, randomSource(seed, uint64(i)+10), over); err != nil {
				failures <- fmt.Errorf("session %d: %w", i, err)
			}
		})
	}
	random := randomSource(seed, 2)
	courier := r.startSidecar()
	kills := 0
	for !over() {
		if wait(ctx, between(random, 500*time.Millisecond, 3*time.Second)) && !over() {
			courier.kill9()
			courier = r.startSidecar()
			kills++
		}
	}
	sessions.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	p.settleAll(t)
	r.wait()
	r.requireEqual(append(propertyKeyed, "journal")...)
	eventually(t, "all but the current segment emptied", func() bool {
		return r.sourceValue("SELECT sum(pg_relation_size(courier.segment_name(n))) FROM generate_series(0, 2) n, courier.queue_current c WHERE n <> c.segment") == "0"
	})
	stop()
	background.Wait()
	courier.stop()

	rotations := r.source.Query(t, appDatabase, "SELECT rotations, truncations, truncations >= 4 FROM courier.queue_current")[0]
	t.Logf("%d transactions committed, %d tried again, %d prepared for long; %s rotations, %s segments emptied, %d kills; queue at most %d kB",
		p.committed.Load(), p.retried.Load(), p.shelf.settled, rotations[0], rotations[1], kills, queued.Load()>>10)
	require.Equal(t, "t", rotations[2], "too few segments were emptied for this to mean something")
	require.Less(t, queued.Load(), int64(mostQueued))
	for table, stop := range sizes {
		require.Less(t, stop(), int64(mostSmall), table)
	}
}

// keepHouse calls for it as often as it can, beside those whose office it is, and
// keeps the largest size of the queue.
func (r *replica) keepHouse(ctx context.Context, queued *atomic.Int64) {
	conn, err := r.source.Open(ctx, appDatabase)
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	for wait(ctx, 20*time.Millisecond) {
		var size int64
		if _, err := conn.Exec(ctx, "SELECT courier.housekeep()"); err != nil && ctx.Err() == nil {
			r.t.Errorf("housekeep: %v", err)
			return
		}
		if conn.QueryRow(ctx, "SELECT courier.queue_bytes()").Scan(&size) == nil {
			queued.Store(max(queued.Load(), size))
		}
	}
}

// readSegments locks segments for a while as a dump does.
func (r *replica) readSegments(ctx context.Context, random *rand.Rand) {
	conn, err := r.source.Open(ctx, appDatabase)
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	for wait(ctx, between(random, 50*time.Millisecond, 500*time.Millisecond)) {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return
		}
		_, _ = tx.Exec(ctx, fmt.Sprintf("SELECT count(*) FROM courier.queue_%d", random.IntN(3)))
		wait(ctx, between(random, 10*time.Millisecond, 300*time.Millisecond))
		_ = tx.Rollback(context.Background())
	}
}
