package queue

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// TestUpTo checks, for random histories, that an interval that ends behind its
// last queued transaction holds the same queued transactions as one that ends at
// the present snapshot, and that none is lost or read twice by the interval that
// follows.
func TestUpTo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := snapshot(t, "start", change.Snapshot{Xmin: 1, Xmax: 1})
		now := snapshot(t, "now", start)
		queued := rapid.SliceOfDistinct(rapid.Uint64Range(1, 60), func(x uint64) uint64 { return x }).Draw(t, "queued")

		in := func(from, to change.Snapshot, xid uint64) bool { return !from.Visible(xid) && to.Visible(xid) }
		var last uint64
		for _, xid := range queued {
			if in(start, now, xid) {
				last = max(last, xid)
			}
		}
		if last == 0 {
			return // no interval
		}
		end := upTo(now, last, start)
		parsed, err := change.ParseSnapshot(end.String())
		require.NoError(t, err)
		require.Equal(t, end.String(), parsed.String())
		later := snapshot(t, "later", now)
		for _, xid := range queued {
			require.Equal(t, in(start, now, xid), in(start, end, xid), "transaction %d", xid)
			require.Equal(t, in(now, later, xid), in(end, later, xid), "transaction %d, next interval", xid)
		}
		// ids below start's xmax are known to be on disk, by induction
		for xid := max(last+1, start.Xmax); xid < 70; xid++ {
			require.False(t, end.Visible(xid), "transaction %d may be used again after a crash", xid)
		}
	})
}

// snapshot draws a snapshot that may follow an earlier one: what was completed
// stays so, and new transactions are numbered upwards.
func snapshot(t *rapid.T, label string, earlier change.Snapshot) change.Snapshot {
	s := change.Snapshot{Xmax: rapid.Uint64Range(earlier.Xmax, earlier.Xmax+20).Draw(t, label+" xmax")}
	for xid := uint64(1); xid < s.Xmax; xid++ {
		if !earlier.Visible(xid) && rapid.Bool().Draw(t, label+" running") {
			s.InProgress = append(s.InProgress, xid)
		}
	}
	s.Xmin = s.Xmax
	if len(s.InProgress) > 0 {
		s.Xmin = slices.Min(s.InProgress)
	}
	return s
}
