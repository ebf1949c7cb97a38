package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// randomSeed is COURIER_SEED, or a new one; it is printed either way. What the
// clusters do with the statements still depends on the machine's timing.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("COURIER_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "COURIER_SEED")
	}
	t.Logf("COURIER_SEED=%d", seed)
	return seed
}

// randomSource gives each user of a seed, by number, a sequence of its own.
func randomSource(seed, number uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, number))
}

// between is a random duration.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}
