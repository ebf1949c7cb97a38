package copydata

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// At any rate a chunk takes a few seconds at most, unless it is as small as chunks get.
func TestSizesFollowTheRate(t *testing.T) {
	require.Equal(t, sizes{lanes: 4, chunk: largestChunk, statement: statementBytes}, sizesFor(4, 0))
	require.Equal(t, sizes{lanes: 1, chunk: slowestChunk, statement: slowestStatement}, sizesFor(64, 1<<10))
	require.Equal(t, sizes{lanes: 64, chunk: largestChunk, statement: statementBytes}, sizesFor(64, 1<<40))
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 64).Draw(t, "workers")
		rate := rapid.Int64Range(1<<10, 1<<40).Draw(t, "rate")
		s := sizesFor(workers, rate)
		require.LessOrEqual(t, s.lanes, workers)
		require.Positive(t, s.lanes)
		if s.chunk > slowestChunk {
			require.LessOrEqual(t, float64(s.chunk)*float64(s.lanes)/float64(rate), chunkTime.Seconds())
		}
		require.LessOrEqual(t, int64(s.statement), s.chunk)
		part := rapid.Int64Range(0, 1<<45).Draw(t, "part")
		require.LessOrEqual(t, s.chunkOf(part), max(s.chunk, part/mostChunks+1))
		require.LessOrEqual(t, part/s.chunkOf(part), int64(mostChunks))
	})
}
