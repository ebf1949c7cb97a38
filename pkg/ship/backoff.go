package ship

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// ShortestRetry is the shortest pause after an error.
const ShortestRetry = 100 * time.Millisecond

// NewBackoff is how long whoever calls Drain waits after errors in a row: from
// 100 ms to 10 s, with jitter.
func NewBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = ShortestRetry
	b.Multiplier = 2
	b.MaxInterval = 10 * time.Second
	return b
}
