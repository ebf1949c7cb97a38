package ship

import (
	"fmt"
	"time"
)

// Sequences fire no triggers and are not transactional, so nothing of them is in
// the queue. The node's are kept ahead of the source's instead:
//
//	When a row is committed on the node, the node's sequence has passed every
//	value of the source's sequence that the row can hold.
//
// So whoever turns to the node, at whatever moment, gets no value there that a
// row has already. It holds because of the order of four things:
//
//  1. a transaction takes values from the sequence before it commits;
//  2. an interval of the queue ends at a snapshot: it holds transactions that
//     had committed then;
//  3. the sequences are read behind that snapshot, before anything of the
//     interval is sent (readSequences, called by ship);
//  4. a unit sets the sequences that are not ahead of what was read as its last
//     statements, before its commit (appendTells). setval is at once seen by
//     everybody; the unit's rows are not, until the commit.
//
// They are set ahead by a margin, and again when half of it is used, so that this
// costs a statement now and then. They are never set back: what was told may have
// been used there. Two things do set them back. TRUNCATE ... RESTART IDENTITY, in
// the unit that brings it, which is why sequences are told behind everything else
// in the unit. And synchronize_sequences, to exactly the source's value: a
// sequence that is exactly there is left alone until the source's moves on.
//
// What a shipper believes about the node's sequences it has read there when it
// attached, when the configuration's generation has changed, and behind DDL. If a
// unit fails it attaches again, so a belief that did not come true is given up with
// it.
//
// Not known is what the source has used if somebody sets its sequence back before
// it was read: with setval, ALTER SEQUENCE or RESTART IDENTITY. The rows before
// that can then be ahead of the node's sequence, until the reset arrives, if more
// than the margin was used between two readings.
//
// A sequence that another transaction has locked exclusively can't be read, and
// is not waited for. If that is a TRUNCATE ... RESTART IDENTITY, the sequence
// belongs to a column; then the values of that column in the unit's rows stand in
// for what could not be read (see). They may be too high, where they were not
// taken from the sequence, until the RESTART arrives.

const (
	// leastMargin is how many values a sequence is told ahead at least.
	leastMargin = 1000
	// useSpan is the time whose use of a sequence the margin covers.
	useSpan = time.Minute
)

// progression is how a sequence counts. Its values go from the start, in steps
// of the increment, to the end.
type progression struct{ increment, min, max int64 }

// size is the increment without its sign.
func (p progression) size() uint64 {
	if p.increment < 0 {
		return uint64(-(p.increment + 1)) + 1
	}
	return max(uint64(p.increment), 1)
}

func (p progression) start() int64 {
	if p.increment < 0 {
		return p.max
	}
	return p.min
}

func (p progression) end() int64 {
	if p.increment < 0 {
		return p.min
	}
	return p.max
}

// steps counts the whole steps between two values; forward says that they lead
// from the first to the second.
func (p progression) steps(from, to int64) (n uint64, forward bool) {
	if p.increment < 0 {
		from, to = to, from
	}
	if to < from {
		return (uint64(from) - uint64(to)) / p.size(), false
	}
	return (uint64(to) - uint64(from)) / p.size(), true
}

// add goes n steps on, which must be possible without leaving int64.
func (p progression) add(from int64, n uint64) int64 {
	if p.increment < 0 {
		return int64(uint64(from) - n*p.size())
	}
	return int64(uint64(from) + n*p.size())
}

// sequence is a sequence of the subscription on both sides.
type sequence struct {
	oid   uint32
	table uint32 // whose column owns it, if that is replicated too
	name  string // on the source, for messages

	column string // the column that owns it

	own   progression
	cache uint64 // values that a session takes at once
	cycle bool

	node  string // on the node, quoted
	there progression
	base  int64 // a value that the node's has by its increment

	read   bool // the source's has been read, or seen in rows
	last   int64
	called bool // last has been used

	from  int64     // last when the present span began
	since time.Time // the span; zero before the first reading
	use   uint64    // steps in the span before

	lost    bool  // the node's may be anywhere
	reached int64 // otherwise: what it was set to, or more

	noted bool // the state on the source says so
}

// observe takes over what was read from the source.
func (q *sequence) observe(last int64, called bool, now time.Time) {
	if q.since.IsZero() {
		q.from, q.since = last, now
	}
	if now.Sub(q.since) >= useSpan {
		q.use = q.used(last)
		q.from, q.since = last, now
	}
	q.read, q.last, q.called = true, last, called
}

// see takes the value of a row for what the source has used, if that is not known.
func (q *sequence) see(value int64) {
	value = min(max(value, q.own.min), q.own.max)
	if _, forward := q.own.steps(q.last, value); !q.read || !q.called || forward {
		q.read, q.last, q.called = true, value, true
	}
}

// used is how far the sequence has come in the present span, 0 if it was set back.
func (q *sequence) used(last int64) uint64 {
	n, forward := q.own.steps(q.from, last)
	if !forward || q.since.IsZero() {
		return 0
	}
	return n
}

// margin is how far the sequence is told ahead, in steps.
func (q *sequence) margin() uint64 {
	room, _ := q.own.steps(q.last, q.own.end())
	if q.cycle {
		room, _ = q.own.steps(q.own.start(), q.own.end())
	}
	margin := max(leastMargin, q.cache, min(max(q.use, q.used(q.last)), room/10))
	// the node must be able to go on as well
	if q.cycle {
		return min(margin, room/4)
	}
	return min(margin, room/2)
}

// headway is how many steps the node is ahead, if it is.
func (q *sequence) headway() (n uint64, ahead bool) {
	n, ahead = q.own.steps(q.last, q.reached)
	if !q.cycle {
		return n, ahead
	}
	all, _ := q.own.steps(q.own.start(), q.own.end())
	if !ahead && n > 0 {
		n = all - min(n, all) + 1
	}
	return n, n <= all/2
}

// due says whether the node has to be told a value, and which.
func (q *sequence) due() (value int64, due bool) {
	if !q.read || !q.called {
		return 0, false
	}
	margin := q.margin()
	if !q.lost {
		n, ahead := q.headway()
		if ahead && (n == 0 || n >= margin/2) || q.reached == q.limit() && !q.cycle {
			return 0, false
		}
	}
	room, _ := q.own.steps(q.last, q.own.end())
	if margin <= room {
		return q.fit(q.own.add(q.last, margin)), true
	}
	return q.fit(q.own.add(q.own.start(), margin-room-1)), true
}

// limit is where the node's sequence can get in the source's direction.
func (q *sequence) limit() int64 {
	if q.own.increment < 0 {
		return q.there.min
	}
	return q.there.max
}

// fit is the value, or the next that the node's sequence has by its own bounds
// and increment.
func (q *sequence) fit(value int64) int64 {
	value = min(max(value, q.there.min), q.there.max)
	way := progression{increment: 1}
	if q.own.increment < 0 {
		way.increment = -1
	}
	n, forward := way.steps(q.base, value)
	more := n % q.there.size()
	if forward && more != 0 {
		more = q.there.size() - more
	}
	if room, _ := way.steps(value, q.limit()); more > room {
		return q.limit()
	}
	return way.add(value, more)
}

// told notes what the statement will have done.
func (q *sequence) told(value int64) {
	q.reached, q.lost, q.noted = value, false, false
}

// statement sets the node's sequence, if it is behind.
func (q *sequence) statement(value int64) string {
	behind := "<"
	if q.own.increment < 0 {
		behind = ">"
	}
	condition := fmt.Sprintf("last_value %s %d OR last_value = %[2]d AND NOT is_called", behind, value)
	if q.cycle {
		condition = fmt.Sprintf("last_value <> %d OR NOT is_called", value)
	}
	return fmt.Sprintf("SELECT pg_catalog.setval(%s::pg_catalog.regclass, %d) FROM %s WHERE %s",
		literal(q.node), value, q.node, condition)
}
