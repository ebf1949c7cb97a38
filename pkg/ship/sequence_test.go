package ship

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawProgression draws how a sequence counts, extremes included.
func drawProgression(t *rapid.T, label string) progression {
	low := rapid.OneOf(rapid.Just(int64(math.MinInt64)), rapid.Int64Range(-50, 50), rapid.Just(int64(1))).Draw(t, label+" min")
	high := rapid.OneOf(rapid.Just(int64(math.MaxInt64)), rapid.Just(int64(math.MaxInt32)), rapid.Just(int64(32767)),
		rapid.Int64Range(low+1, low+100)).Filter(func(n int64) bool { return n > low }).Draw(t, label+" max")
	increment := rapid.OneOf(rapid.Just(int64(1)), rapid.Just(int64(-1)), rapid.Int64Range(2, 20), rapid.Int64Range(-20, -2),
		rapid.Just(int64(math.MinInt64)), rapid.Just(int64(math.MaxInt64))).Draw(t, label+" increment")
	return progression{increment, low, high}
}

// next is what nextval makes of a sequence; ok is false at its end.
func (p progression) next(last int64) (int64, bool) {
	if room, _ := p.steps(last, p.end()); room == 0 {
		return 0, false
	}
	return p.add(last, 1), true
}

// Whatever the source uses, the node is told before that it is not ahead, and
// what it is told lies ahead of every value used, unless its own bounds end
// before.
func TestSequenceStaysAhead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		own := drawProgression(t, "source")
		there := own
		if rapid.Bool().Draw(t, "differs on the node") {
			there = drawProgression(t, "node")
			if (there.increment < 0) != (own.increment < 0) {
				there.increment = own.increment
			}
		}
		base := there.start()
		q := &sequence{own: own, there: there, base: base, lost: true, cache: rapid.Uint64Range(1, 50).Draw(t, "cache")}
		now := time.Unix(0, 0)
		node, last := base, own.start()
		q.observe(last, false, now)
		_, due := q.due()
		require.False(t, due, "nothing was used yet")
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			room, _ := own.steps(last, own.end())
			last = own.add(last, min(room, rapid.Uint64Range(0, 700).Draw(t, "used")))
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			q.observe(last, true, now)
			value, due := q.due()
			if due {
				require.True(t, value >= there.min && value <= there.max, "%d is out of the node's bounds", value)
				if (value > node) == (own.increment > 0) { // as the statement has it
					node = value
				}
				q.told(value)
			}
			if _, ahead := own.steps(last, node); !ahead {
				require.Equal(t, q.limit(), q.reached, "the node is at %d, the source has used %d", node, last)
			}
		}
	})
}

func TestSequenceMargin(t *testing.T) {
	t.Parallel()
	bigint := progression{1, 1, math.MaxInt64}
	start := time.Unix(0, 0)
	q := &sequence{own: bigint, there: bigint, base: 1, lost: true}
	q.observe(100, true, start)
	value, due := q.due()
	require.True(t, due)
	require.Equal(t, int64(1100), value)
	q.told(value)

	q.observe(600, true, start)
	_, due = q.due()
	require.False(t, due, "half of it is left")
	q.observe(601, true, start)
	value, due = q.due()
	require.True(t, due)
	require.Equal(t, int64(1601), value)
	q.told(value)

	// as much as the use of a minute
	q.observe(50_000, true, start.Add(30*time.Second))
	value, due = q.due()
	require.True(t, due)
	require.Equal(t, int64(99_900), value)
	q.told(value)
	q.observe(60_100, true, start.Add(time.Minute))
	require.Equal(t, uint64(60_000), q.margin())

	// left alone where synchronize_sequences has put it, until it moves
	q.reached = 60_100
	_, due = q.due()
	require.False(t, due)
	q.observe(60_101, true, start.Add(time.Minute))
	_, due = q.due()
	require.True(t, due)

	// TRUNCATE ... RESTART IDENTITY
	q.told(120_101)
	q.observe(3, true, start.Add(time.Minute))
	_, due = q.due()
	require.False(t, due, "set back on the source only")
	q.lost = true
	value, due = q.due()
	require.True(t, due)
	require.Less(t, value, int64(120_101))
}

// Rows stand in for a sequence that could not be read.
func TestSequenceSeenInRows(t *testing.T) {
	t.Parallel()
	bigint := progression{1, 1, math.MaxInt64}
	q := &sequence{own: bigint, there: bigint, base: 1, lost: true}
	for _, value := range []int64{7, 5000, 12, -3} {
		q.see(value)
	}
	value, due := q.due()
	require.True(t, due)
	require.Equal(t, int64(6000), value)
	q.told(value)
	q.observe(5001, true, time.Unix(0, 0))
	_, due = q.due()
	require.False(t, due)
	q.see(4000)
	require.Equal(t, int64(5001), q.last, "what was read is further")
}

func TestSequenceNearItsEnd(t *testing.T) {
	t.Parallel()
	small := progression{1, 1, 100}
	q := &sequence{own: small, there: small, base: 1, lost: true}
	q.observe(10, true, time.Unix(0, 0))
	value, _ := q.due()
	require.Equal(t, int64(55), value, "the node can go on as well")
	q.told(value)
	q.observe(100, true, time.Unix(1, 0))
	value, due := q.due()
	require.True(t, due)
	require.Equal(t, int64(100), value)
	q.told(value)
	_, due = q.due()
	require.False(t, due)
}

func TestSequenceThatCycles(t *testing.T) {
	t.Parallel()
	small := progression{1, 1, 100}
	q := &sequence{own: small, there: small, base: 1, lost: true, cycle: true}
	q.observe(90, true, time.Unix(0, 0))
	value, due := q.due()
	require.True(t, due)
	require.Equal(t, int64(14), value, "24 steps on, past the end")
	q.told(value)
	_, due = q.due()
	require.False(t, due)
	q.observe(5, true, time.Unix(1, 0))
	value, due = q.due()
	require.True(t, due)
	require.Equal(t, int64(29), value)
	down := progression{-1, 1, 100}
	q = &sequence{own: down, there: down, base: 100, lost: true, cycle: true}
	q.observe(10, true, time.Unix(0, 0))
	value, _ = q.due()
	require.Equal(t, int64(86), value)
}

// Two nodes that share the values out among them keep to theirs.
func TestSequenceKeepsTheNodesIncrement(t *testing.T) {
	t.Parallel()
	q := &sequence{own: progression{2, 1, math.MaxInt64}, there: progression{2, 1, math.MaxInt64}, base: 2, lost: true}
	q.observe(11, true, time.Unix(0, 0))
	value, _ := q.due()
	require.Equal(t, int64(2012), value)
	down := progression{-10, math.MinInt64, -1}
	q = &sequence{own: progression{-1, math.MinInt64, -1}, there: down, base: -3, lost: true}
	q.observe(-20, true, time.Unix(0, 0))
	value, _ = q.due()
	require.Equal(t, int64(-1023), value)
	q = &sequence{own: progression{1, 1, math.MaxInt64}, there: progression{1000, 1, 1500}, base: 1, lost: true}
	q.observe(1100, true, time.Unix(0, 0))
	value, _ = q.due()
	require.Equal(t, int64(1500), value, "where it ends")
}
