package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// faultTables are what work() writes to; movement has no key, so that a change
// applied twice shows.
const faultTables = `
CREATE TABLE item (id bigint PRIMARY KEY, v int NOT NULL, body text);
CREATE TABLE movement (item bigint, delta int);`

// workFunction is a transaction of about 4 kB of changes in the queue.
const workFunction = `
CREATE FUNCTION work(i bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.item VALUES (i, 0, repeat(md5(i::text), 64));
	UPDATE public.item SET v = v + 1, body = repeat(md5((i + v)::text), 64) WHERE id = i - 7;
	DELETE FROM public.item WHERE id = i - 50;
	INSERT INTO public.movement VALUES (i, 1);
$$`

// Beats measure how long a row takes: the source notes when it was written, a
// default of the target's when it arrived. Both read the same clock.
const (
	beatSource = `CREATE TABLE beat (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())`
	beatTarget = `CREATE TABLE beat (id bigint PRIMARY KEY, at timestamptz NOT NULL, arrived timestamptz DEFAULT clock_timestamp())`
	beatInsert = `INSERT INTO beat (id) VALUES ($1)`
)

// pace executes a statement again and again, $1 being a number that grows.
type pace struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	last   atomic.Int64 // number of the last one that was committed
	err    error        // valid once done is closed
}

// startPace starts one at first, in a database of the source.
func (r *replica) startPace(database string, every time.Duration, sql string, first int64) *pace {
	r.t.Helper()
	conn := r.source.Connect(r.t, database)
	ctx, cancel := context.WithCancel(context.Background())
	p := &pace{t: r.t, cancel: cancel, done: make(chan struct{})}
	p.last.Store(first - 1)
	go func() {
		defer close(p.done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for i := first; ctx.Err() == nil; i++ {
			// not ctx: a statement under way ends in order
			if _, p.err = conn.Exec(context.Background(), sql, i); p.err != nil {
				return
			}
			p.last.Store(i)
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}()
	r.t.Cleanup(func() { cancel(); <-p.done })
	return p
}

// stop ends it and returns the last number; it must not have failed.
func (p *pace) stop() int64 {
	p.t.Helper()
	p.cancel()
	<-p.done
	require.NoError(p.t, p.err)
	return p.last.Load()
}

// observation is a state as subscription_status showed it.
type observation struct {
	State string
	Retry bool   // next_retry_at is given
	Error bool   // last_error is given
	Code  string // last_error_sqlstate
}

// history is what a subscription's status showed, each change once.
type history struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	seen []observation
	err  error
}

// startHistory watches a subscription of the source's database.
func (r *replica) startHistory(name string) *history {
	r.t.Helper()
	conn := r.source.Connect(r.t, appDatabase)
	ctx, cancel := context.WithCancel(context.Background())
	h := &history{t: r.t, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for {
			rows, _ := conn.Query(ctx, `SELECT state, next_retry_at IS NOT NULL, last_error IS NOT NULL,
				coalesce(last_error_sqlstate, '') FROM courier.subscription_status WHERE subscription_name = $1`, name)
			o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[observation])
			if ctx.Err() != nil {
				return
			}
			h.mu.Lock()
			if err != nil {
				h.err = err
			} else if len(h.seen) == 0 || h.seen[len(h.seen)-1] != o {
				h.seen = append(h.seen, o)
			}
			h.mu.Unlock()
			if err != nil || !wait(ctx, 50*time.Millisecond) {
				return
			}
		}
	}()
	r.t.Cleanup(func() { cancel(); <-h.done })
	return h
}

// contains says whether a state was seen.
func (h *history) contains(state string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.seen, func(o observation) bool { return o.State == state })
}

// waitFor waits until the last state seen is a given one.
func (h *history) waitFor(state string) {
	h.t.Helper()
	eventually(h.t, "state "+state, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.err != nil || len(h.seen) > 0 && h.seen[len(h.seen)-1].State == state
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	require.NoError(h.t, h.err)
}

// finish checks what was seen: streaming at both ends, and nothing in between
// but retrying, each time with an error and the time of the next try.
func (h *history) finish() {
	h.t.Helper()
	h.waitFor("streaming")
	h.cancel()
	<-h.done
	text := fmt.Sprintf("%+v", h.seen)
	h.t.Logf("states: %s", text)
	require.Equal(h.t, "streaming", h.seen[0].State, text)
	last := h.seen[len(h.seen)-1]
	require.False(h.t, last.Retry || last.Error || last.Code != "", "the error is forgotten when it has passed: %s", text)
	for _, o := range h.seen {
		require.Contains(h.t, []string{"streaming", "retrying"}, o.State, text)
		if o.State == "retrying" {
			require.True(h.t, o.Retry && o.Error, "retrying says why and until when: %s", text)
		}
	}
}
