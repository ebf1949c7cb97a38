package change

// Covers reports whether every transaction that other sees is seen by s too.
func (s Snapshot) Covers(other Snapshot) bool {
	// What other sees is everything below its Xmax but its list; so whatever s
	// does not see below that must be in other's list.
	for _, xid := range s.InProgress {
		if other.Visible(xid) {
			return false
		}
	}
	for xid := s.Xmax; xid < other.Xmax; xid++ {
		if other.Visible(xid) {
			return false
		}
	}
	return true
}

// Covers reports whether what is applied at other is applied at p too. It may
// say no although it is, but never of a position that a shipper reached from
// other: the end of an interval is where the next one starts.
func (p Position) Covers(other Position) bool {
	if other.End == nil {
		return p.Start.Covers(other.Start)
	}
	if p.Start.Covers(*other.End) {
		return true
	}
	return p.End != nil && p.Start.String() == other.Start.String() && p.End.String() == other.End.String() &&
		(p.K > other.K || p.K == other.K && p.XID >= other.XID)
}
