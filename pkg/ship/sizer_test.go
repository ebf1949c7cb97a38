package ship

import (
	"strconv"
	"testing"
	"time"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
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

func TestPiecesGrowWithTheWay(t *testing.T) {
	t.Parallel()
	limit := func(way time.Duration) int { return (&sizer{way: way}).limit() }
	require.Equal(t, standardRows, limit(0))
	require.Equal(t, standardRows, limit(300*time.Microsecond))
	require.Equal(t, 25_000, limit(10*time.Millisecond))
	require.Equal(t, mostRows, limit(time.Minute))

	pieces, _, _ := run(1_000_000, 3*time.Microsecond, 50*time.Millisecond, limit(50*time.Millisecond))
	require.LessOrEqual(t, pieces, 11, "the target waits for each of them as long as 17,000 rows take")
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

// cutting is a cutter that has read so many updates, in so many bytes, of so many rows.
func cutting(t *testing.T, options Options, changes, bytes, rows int) (*cutter, *piece) {
	t.Helper()
	relation := &change.Relation{OID: 1, Schema: "s", Name: "t", Columns: []change.Column{{Name: "id", Key: true}}}
	s := &Shipper{fold: batch.New(), sub: &Subscription{Options: options}, sizer: sizer{rows: standardRows}}
	for i := range changes {
		key := []change.Value{{Kind: change.Text, Data: strconv.AppendInt(nil, int64(i%rows), 10)}}
		s.fold.Add(&change.Change{Op: change.Update, Relation: relation, New: key}, 0)
	}
	return &cutter{shipper: s, space: s.space(false)}, &piece{changes: changes, bytes: bytes}
}

func TestManyChangesOfAFewRowsAreOnePiece(t *testing.T) {
	t.Parallel()
	full := func(options Options, changes, bytes, rows int) bool {
		c, p := cutting(t, options, changes, bytes, rows)
		return c.full(p)
	}
	require.False(t, full(Options{}, standardRows-1, 1, standardRows-1))
	require.True(t, full(Options{}, standardRows, 1, standardRows))
	require.False(t, full(Options{}, 2*standardRows, fewestBytes, 1000))
	require.True(t, full(Options{}, 2*standardRows, foldedBytes, 1000), "what is read is bounded")
	require.True(t, full(Options{}, 100, fewestBytes, 100), "of wide rows")
	require.True(t, full(Options{BatchRows: "500"}, 500, 1, 1), "as the options say")
	require.True(t, full(Options{BatchBytes: "500"}, 100, 500, 1))
	require.False(t, full(Options{BatchRows: "500"}, 499, fewestBytes, 1), "they say nothing of bytes")

	c, p := cutting(t, Options{}, 2*standardRows, 1, 1)
	p.rows = true
	require.True(t, c.full(p), "row by row each change is a statement")
	c.shipper.sizer = sizer{rows: mostRows, way: time.Minute}
	require.Equal(t, mostRows, c.shipper.space(false).rows)
	require.Equal(t, standardRows, c.shipper.space(true).rows)
}

func TestPiecesOfWideRowsFitTheLink(t *testing.T) {
	t.Parallel()
	bytes := func(way time.Duration) int { return (&sizer{way: way}).bytes() }
	require.Equal(t, fewestBytes, bytes(0))
	require.Equal(t, fewestBytes, bytes(300*time.Microsecond))
	require.Equal(t, 2<<20, bytes(2*time.Millisecond))
	require.Equal(t, 4<<20, bytes(4*time.Millisecond))
	require.Equal(t, mostBytes, bytes(50*time.Millisecond))
	require.Equal(t, mostBytes, bytes(time.Minute))
}
