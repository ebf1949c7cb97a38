package supervise

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// shortestRetry is the shortest pause after an error.
const shortestRetry = 100 * time.Millisecond

// newBackoff grows from 100 ms to 10 s, with jitter.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = shortestRetry
	b.Multiplier = 2
	b.MaxInterval = 10 * time.Second
	return b
}

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
