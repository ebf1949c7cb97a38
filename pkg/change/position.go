package change

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a location in the write-ahead log.
type LSN uint64

// String returns PostgreSQL's text form, such as 16/B374D848.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// ParseLSN parses PostgreSQL's text form of pg_lsn.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	if ok && len(high) <= 8 && len(low) <= 8 {
		h, err1 := strconv.ParseUint(high, 16, 32)
		l, err2 := strconv.ParseUint(low, 16, 32)
		if err1 == nil && err2 == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("parse WAL location %q: want two hexadecimal numbers as in 16/B374D848", s)
}

// WAL is a place in the write-ahead log of a server and of those it stems from.
type WAL struct {
	Timeline uint32
	Location LSN
}

// Position is how far a subscription has come.
//
// With End nil every transaction visible in Start is applied. Otherwise the
// interval (Start, End] is under way: of the transactions visible in End but
// not in Start, those up to and including (K, XID) are applied.
type Position struct {
	Start Snapshot
	End   *Snapshot
	K     LSN
	XID   uint64
	// Flushed is up to where the source's WAL was on disk when it was read: all
	// that is applied was committed before. Zero if that is not known; not part
	// of the text.
	Flushed WAL
}

// String returns "xmin:xmax:list", or "start|end|K|xid" inside an interval.
func (p Position) String() string {
	if p.End == nil {
		return p.Start.String()
	}
	return p.Start.String() + "|" + p.End.String() + "|" + p.K.String() + "|" + strconv.FormatUint(p.XID, 10)
}

// ParsePosition parses what String returns.
func ParsePosition(s string) (Position, error) {
	parts := strings.Split(s, "|")
	if len(parts) != 1 && len(parts) != 4 {
		return Position{}, fmt.Errorf("parse position %q: want a snapshot, or snapshot|snapshot|location|xid", s)
	}
	start, err := ParseSnapshot(parts[0])
	if err != nil {
		return Position{}, fmt.Errorf("parse position %q: %w", s, err)
	}
	p := Position{Start: start}
	if len(parts) == 1 {
		return p, nil
	}
	end, err := ParseSnapshot(parts[1])
	if err != nil {
		return Position{}, fmt.Errorf("parse position %q: %w", s, err)
	}
	p.End = &end
	if p.K, err = ParseLSN(parts[2]); err != nil {
		return Position{}, fmt.Errorf("parse position %q: %w", s, err)
	}
	if p.XID, err = strconv.ParseUint(parts[3], 10, 64); err != nil {
		return Position{}, fmt.Errorf("parse position %q: transaction id %q is not a number", s, parts[3])
	}
	return p, nil
}
