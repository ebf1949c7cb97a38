package change

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// mostXID bounds the transactions of the models below.
const mostXID = 24

// anySnapshot draws a snapshot of transactions 1 to mostXID.
func anySnapshot(t *rapid.T, name string) Snapshot {
	xmin := rapid.Uint64Range(1, mostXID).Draw(t, name+" xmin")
	s := Snapshot{Xmin: xmin, Xmax: rapid.Uint64Range(xmin, mostXID).Draw(t, name+" xmax")}
	for xid := xmin; xid < s.Xmax; xid++ {
		if rapid.Bool().Draw(t, name+" in progress") {
			s.InProgress = append(s.InProgress, xid)
		}
	}
	return s
}

func TestSnapshotCoversModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySnapshot(t, "a"), anySnapshot(t, "b")
		covers := true
		for xid := uint64(1); xid <= mostXID; xid++ {
			covers = covers && (a.Visible(xid) || !b.Visible(xid))
		}
		require.Equal(t, covers, a.Covers(b), "%s covers %s", a, b)
	})
}

// applied is what a position says is applied, of transactions whose place is
// their id.
func applied(p Position, xid uint64) bool {
	return p.Start.Visible(xid) ||
		p.End != nil && p.End.Visible(xid) && (LSN(xid) < p.K || LSN(xid) == p.K && xid <= p.XID)
}

// later draws a snapshot that covers s: some that were in progress have ended,
// others have begun.
func later(t *rapid.T, s Snapshot, name string) Snapshot {
	next := Snapshot{Xmax: rapid.Uint64Range(s.Xmax, mostXID).Draw(t, name+" xmax")}
	next.Xmin = next.Xmax
	for xid := s.Xmin; xid < next.Xmax; xid++ {
		if !s.Visible(xid) && rapid.Bool().Draw(t, name+" in progress") {
			next.InProgress = append(next.InProgress, xid)
			next.Xmin = min(next.Xmin, xid)
		}
	}
	return next
}

// A position never covers one that has more; and it covers all those that a
// shipper has been at before.
func TestPositionCovers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := anySnapshot(t, "start")
		passed := []Position{{Start: start}}
		for range rapid.IntRange(1, 3).Draw(t, "intervals") {
			end := later(t, start, "end")
			for xid := start.Xmin; xid < end.Xmax; xid++ {
				if !start.Visible(xid) && end.Visible(xid) {
					passed = append(passed, Position{Start: start, End: &end, K: LSN(xid), XID: xid})
				}
			}
			passed = append(passed, Position{Start: end})
			start = end
		}
		for i, p := range passed {
			for j, other := range passed {
				if j <= i {
					require.True(t, p.Covers(other), "%s covers %s", p, other)
				}
				if p.Covers(other) {
					for xid := uint64(1); xid <= mostXID; xid++ {
						require.True(t, applied(p, xid) || !applied(other, xid), "%s covers %s, but not %d", p, other, xid)
					}
				}
			}
		}
	})
}
