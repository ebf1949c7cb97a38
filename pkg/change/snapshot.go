package change

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is PostgreSQL's pg_snapshot: which transactions had completed at
// some moment. Transaction ids are 64 bits wide and never wrap.
type Snapshot struct {
	Xmin       uint64   // every id below it had completed
	Xmax       uint64   // no id from here on had
	InProgress []uint64 // ids in [Xmin, Xmax) that had not; ascending, no repeats
}

// ParseSnapshot parses pg_snapshot's text form "xmin:xmax:list" by the rules of
// its input function: ids ascending and in [xmin, xmax), repeats dropped.
func ParseSnapshot(s string) (Snapshot, error) {
	malformed := func(why string) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: %s", s, why)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return malformed("want xmin:xmax:list")
	}
	var snapshot Snapshot
	var err error
	if snapshot.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return malformed("xmin is not a number")
	}
	if snapshot.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return malformed("xmax is not a number")
	}
	if snapshot.Xmin == 0 || snapshot.Xmax < snapshot.Xmin {
		return malformed("want 0 < xmin <= xmax")
	}
	if parts[2] == "" {
		return snapshot, nil
	}
	last := uint64(0)
	for item := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(item, 10, 64)
		if err != nil {
			return malformed("a transaction id is not a number")
		}
		if xid < snapshot.Xmin || xid >= snapshot.Xmax || xid < last {
			return malformed("transaction ids must ascend from xmin to below xmax")
		}
		if xid != last {
			snapshot.InProgress = append(snapshot.InProgress, xid)
		}
		last = xid
	}
	return snapshot, nil
}

// String returns pg_snapshot's text form.
func (s Snapshot) String() string {
	b := make([]byte, 0, 24+20*len(s.InProgress))
	b = strconv.AppendUint(b, s.Xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.Xmax, 10)
	b = append(b, ':')
	for i, xid := range s.InProgress {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return string(b)
}

// Visible reports whether the transaction had completed, as
// pg_visible_in_snapshot does.
func (s Snapshot) Visible(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.InProgress, xid)
	return !running
}
