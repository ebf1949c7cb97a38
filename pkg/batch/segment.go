package batch

import "github.com/pg-courier/pg_courier/pkg/change"

// Row is one row to apply.
type Row struct {
	Key []change.Value // deletes and updates: a tuple whose key columns are the row's key on the target
	New []change.Value // all but deletes: the row's values
	Tx  int            // the first transaction that touched it, as numbered by the caller
}

// Updates are rows whose updates set the same columns.
type Updates struct {
	Columns    []int // indexes of the columns set; with keys only if KeyChanged
	KeyChanged bool
	Rows       []Row
}

// Ordered is a change to apply as it came.
type Ordered struct {
	Change change.Change
	Tx     int
}

// Table is a relation's part of a segment.
type Table struct {
	Relation *change.Relation
	Deletes  []Row
	Unsure   int // of the deletes, those of rows that the target may never have had
	Updates  []Updates
	Inserts  []Row
	Upserts  []Row
	Ordered  []Ordered
}

// Truncate empties tables by one statement.
type Truncate struct {
	Relations        []*change.Relation
	Uncopied         []change.Uncopied
	Restart, Cascade bool
	Where            string // as in change.Change
	Tx               int
}

// Event is a message for a channel.
type Event struct {
	Channel string
	Payload []byte
	Tx      int
}

// Segment is a part of a batch to execute in the order the package describes.
type Segment struct {
	Truncates []Truncate
	Tables    []*Table // in first-seen order
	Events    []Event
}
