package change

// Op says what a change does. Its values are the message types of pgoutput.
type Op byte

// The operations. Upsert is pg_courier's own, a row sent again on demand; so is
// DDL, a command that changes definitions.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Upsert   Op = 'V'
	Truncate Op = 'T'
	Event    Op = 'M'
	DDL      Op = 'Q'
)

// String returns the operation's name in lower case.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Upsert:
		return "upsert"
	case Truncate:
		return "truncate"
	case Event:
		return "event"
	case DDL:
		return "ddl"
	}
	return "unknown operation"
}

// Kind says how a column's value is given.
type Kind byte

// The kinds of value, as pgoutput marks them.
const (
	Null      Kind = 'n'
	Unchanged Kind = 'u' // a TOASTed value the update left alone and so did not carry
	Text      Kind = 't' // the type's text form, in the database's encoding
)

// Value is one column of a tuple.
type Value struct {
	Kind Kind
	Same bool   // in an update's new row: Null or Text, but as it was before
	Data []byte // for Text; aliases the chunk the value was decoded from
}

// Change is one captured change.
type Change struct {
	Op       Op
	Restart  bool      // Truncate: RESTART IDENTITY
	Cascade  bool      // Truncate: CASCADE
	Relation *Relation // nil for Truncate, Event and DDL

	// Old and New are nil or as long as Relation.Columns. Old is the key before
	// the change (other columns Null), or the whole row when Relation.WholeRow;
	// an update has it only if the key changed or the whole row identifies it.
	Old, New []Value

	// Filters is nil unless the table had row filters when the change was
	// captured. It is reused, and valid only while the change is handed over.
	Filters []FilterResult

	Truncated []*Relation // Truncate
	// Uncopied are others that a Truncate empties, of which the target has got
	// nothing yet.
	Uncopied []Uncopied
	// Where is the condition, in SQL, of the rows of the one table that a
	// Truncate removes, a partition's; "": all rows. Deparsed under search_path
	// = pg_catalog.
	Where string

	Channel string // Event
	Payload []byte // Event; aliases the chunk

	Command *Command // DDL
}

// Uncopied is a table that waits for its copy.
type Uncopied struct {
	*Relation
	KeepRows bool // those that the target has, whoever they are from
}

// FilterResult says which rows of a change a row filter lets in. A row that the
// change does not have counts as not let in.
type FilterResult struct {
	Filter   int32 // its number
	Old, New bool
}

// Filtered returns the result of a row filter; not ok if the change was captured
// without it.
func (c *Change) Filtered(filter int32) (result FilterResult, ok bool) {
	for _, each := range c.Filters {
		if each.Filter == filter {
			return each, true
		}
	}
	return FilterResult{}, false
}

// Transaction is one committed transaction of the source.
type Transaction struct {
	XID     uint64 // 64-bit transaction id
	K       LSN    // taken before commit; its order is dependency order
	Origin  int32  // node the work first committed on; 0 is this one
	Clock   int64  // hybrid logical clock
	Changes []Change
}
