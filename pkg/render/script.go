package render

import "github.com/pg-courier/pg_courier/pkg/change"

// Policy says what to do when a row of the target is not as a change expects.
type Policy int

// The policies; the source wins by default.
const (
	ApplyRemote Policy = iota
	KeepLocal
	Error
)

// Options holds what is the same for a whole subscription.
type Options struct {
	// CheckUpdates makes an update that does not find its row an error, by
	// courier_target.check_updated (SQLSTATE PC002).
	CheckUpdates bool
	Policy       Policy                     // set-based: Error checks deletes too
	Subscription string                     // its progress key, stored with events
	Rank         func(*change.Relation) int // parents lower than children; nil if order does not matter
}

// Statement says what a statement of a script is.
type Statement struct {
	Relation *change.Relation // nil for events and what the caller appended; of a truncate its first
	Op       change.Op        // 0 for what the caller appended
	Rows     int
	Tx       int // the first transaction in it, as numbered by the caller
	Change   int // row by row: the caller's number of the change; otherwise -1

	// Expected is the least that the target reports for the statement if its rows
	// there are as the changes say. 0: what it reports says nothing about that.
	Expected int

	at int // where its text begins
}

// Script is a growing text of statements, joined by ";\n". The n-th statement
// of the text is the n-th of Statements. Its memory is reused after Reset.
type Script struct {
	text       []byte
	dropped    int // length of the text that was dropped
	statements []Statement
	sorted     []ranked // scratch
	columns    []int    // scratch
}

// keptText is how much memory a script keeps: more than a batch takes, unless a
// row is very large.
const keptText = 16 << 20

// Reset empties the script and keeps its memory, unless it is very much.
func (s *Script) Reset() {
	if s.text = s.text[:0]; cap(s.text) > keptText {
		s.text = nil
	}
	s.dropped = 0
	clear(s.statements)
	s.statements = s.statements[:0]
}

// Drop forgets the text, but not what its statements are: that of a large row is not to
// be in memory for longer than it is needed.
func (s *Script) Drop() { s.text, s.dropped = nil, s.Len() }

// Reserve makes room for so many bytes at once: growing step by step would copy a large
// text several times over.
func (s *Script) Reserve(length int) { s.text = grow(s.text, length) }

// Bytes returns the text, valid until the next change to the script.
func (s *Script) Bytes() []byte { return s.text }

// String returns a copy of the text.
func (s *Script) String() string { return string(s.text) }

// Len returns the length of the text in bytes, also of one that was dropped.
func (s *Script) Len() int { return len(s.text) + s.dropped }

// Statements describes the statements in order, valid until the next change to
// the script.
func (s *Script) Statements() []Statement { return s.statements }

// Size returns the length of the n-th statement, with what separates it from the
// next.
func (s *Script) Size(n int) int {
	if n == len(s.statements)-1 {
		return s.Len() - s.statements[n].at
	}
	return s.statements[n+1].at - s.statements[n].at
}

// Append appends one statement of the caller, without a semicolon.
func (s *Script) Append(sql string) {
	s.begin(Statement{Change: -1})
	s.text = append(s.text, sql...)
}

func (s *Script) begin(statement Statement) {
	if len(s.statements) > 0 {
		s.text = append(s.text, ";\n"...)
	}
	statement.at = len(s.text)
	s.statements = append(s.statements, statement)
}

// secure appends what lets row-level security of a table act, if it applies to
// the role, or no longer act.
func (s *Script) secure(t *Target, act bool) {
	switch {
	case !t.table.RowSecurity:
	case act:
		s.Append("SET LOCAL row_security = on")
	default:
		s.Append("SET LOCAL row_security = off")
	}
}

func (s *Script) write(parts ...string) {
	for _, part := range parts {
		s.text = append(s.text, part...)
	}
}

// check wraps the update or delete begun at position start of the text, which
// ends in RETURNING 1, so that it raises an error unless it meets rows rows.
func (s *Script) check(t *Target, rows int) {
	s.write(" RETURNING 1) SELECT courier_target.check_updated(pg_catalog.count(*), ")
	s.text = appendInt(s.text, rows)
	s.write(", ")
	s.text = appendLiteral(s.text, t.table.Schema+"."+t.table.Name)
	s.write(") FROM u")
}

// Event appends an event.
func (s *Script) event(channel string, payload []byte, options *Options) {
	s.write("INSERT INTO courier_target.event (subscription, channel, payload) VALUES (")
	s.text = appendLiteral(s.text, options.Subscription)
	s.write(", ")
	s.text = appendLiteral(s.text, channel)
	s.write(", ")
	s.text = appendLiteral(s.text, payload)
	s.write(")")
}
