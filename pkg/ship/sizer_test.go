package ship

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// run lets a target that needs so long a row, and so long for the way there and
// back, apply a backlog; it returns the number of pieces and the longest work.
func run(backlog int, row, way time.Duration, limit int) (pieces int, longest time.Duration, last int) {
	z := sizer{way: way}
	for backlog > 0 {
		last = min(z.next(limit), backlog)
		work := time.Duration(last) * row
		z.observe(last, work+way, limit)
		backlog -= last
		longest = max(longest, work)
		pieces++
	}
	return pieces, longest, last
}

func TestPiecesGrowToTheLimit(t *testing.T) {
	t.Parallel()
	pieces, _, _ := run(10_000_000, 3*time.Microsecond, time.Millisecond, 10000)
	require.Less(t, pieces, 1010)
	pieces, _, _ = run(1_000_000, 3*time.Microsecond, 300*time.Millisecond, 10000)
	require.Less(t, pieces, 115, "a long way is no slow target")
}

func TestPiecesOfASlowTargetAreShort(t *testing.T) {
	t.Parallel()
	_, longest, _ := run(100_000, time.Millisecond, time.Millisecond, 10000)
	require.LessOrEqual(t, longest, time.Second)
	_, _, last := run(20_000, 20*time.Millisecond, time.Millisecond, 10000)
	require.LessOrEqual(t, last, 100)
}

func TestPiecesRespectTheLimit(t *testing.T) {
	t.Parallel()
	var z sizer
	for range 100 {
		n := z.next(7)
		require.LessOrEqual(t, n, 7)
		require.Positive(t, n)
		z.observe(n, time.Millisecond, 7)
	}
	for range 200 { // nor do they overflow
		n := z.next(1 << 30)
		require.Positive(t, n)
		z.observe(n, time.Millisecond, 1<<30)
	}
}

func TestPiecesOfWideRowsFitTheLink(t *testing.T) {
	t.Parallel()
	bytes := func(way time.Duration) int { return (&sizer{way: way}).bytes() }
	require.Equal(t, fewestBytes, bytes(0))
	require.Equal(t, fewestBytes, bytes(300*time.Microsecond))
	require.Equal(t, 2<<20, bytes(2*time.Millisecond))
	require.Equal(t, mostBytes, bytes(50*time.Millisecond))
	require.Equal(t, mostBytes, bytes(time.Minute))
}
