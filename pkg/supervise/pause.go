package supervise

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// shortestRetry is the shortest pause after an error.
const shortestRetry = ship.ShortestRetry

// newBackoff grows from 100 ms to 10 s, with jitter.
func newBackoff() *backoff.ExponentialBackOff { return ship.NewBackoff() }

// sleep waits; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	wait(ctx, nil, d)
	return ctx.Err() == nil
}

// wait waits for a signal, but no longer than d.
func wait(ctx context.Context, signal <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-signal:
	case <-ctx.Done():
	}
}
