package ship

import (
	"errors"
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// StopError says that a subscription cannot go on until a person has acted.
// Everything before the transaction it names is applied; nothing is skipped.
type StopError struct {
	Subscription string
	Node         string
	Table        string // schema.table on the source, or ""
	Schema, Name string // the same in two
	Op           string
	Key          string     // column=value, …; "" when the table has none
	XID          uint64     // transaction at fault, 0 when there is none
	K            change.LSN // its place in the queue
	Advice       string
	NeedsResync  bool // the queue can't bring the node up to date any more
	Err          error
}

// Error implements error.
func (e *StopError) Error() string {
	if e.NeedsResync {
		return fmt.Sprintf("subscription %s to node %s needs a resync: %v", e.Subscription, e.Node, e.Err)
	}
	where := ""
	if e.Table != "" {
		where = fmt.Sprintf(" %s of table %s", e.Op, e.Table)
		if e.Key != "" {
			where += " (" + e.Key + ")"
		}
	} else if e.Op != "" {
		where = " " + e.Op
	}
	if e.XID != 0 {
		where += fmt.Sprintf(" of transaction %d", e.XID)
	}
	return fmt.Sprintf("subscription %s to node %s is stopped: apply%s: %v", e.Subscription, e.Node, where, e.Err)
}

// at names the table, nil for none.
func (e *StopError) at(relation *change.Relation) {
	if relation != nil {
		e.Table, e.Schema, e.Name = relation.String(), relation.Schema, relation.Name
	}
}

// Unwrap returns the cause.
func (e *StopError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *StopError) Hint() string { return e.Advice }

// BusyError says that another process ships the subscription.
type BusyError struct{ Subscription string }

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("subscription %q is being shipped by another process", e.Subscription)
}

// Hint says what to do instead.
func (e *BusyError) Hint() string {
	return fmt.Sprintf("Wait for it with SELECT courier.wait_for_subscription('%s').", e.Subscription)
}

// Busy reports whether err means that another process ships the subscription.
func Busy(err error) bool {
	var busy *BusyError
	return errors.As(err, &busy)
}

// UncommittedError says that tables are to be copied by a session that would see rows
// of its own transaction, which may never be committed.
type UncommittedError struct{ Subscription string }

// Error implements error.
func (e *UncommittedError) Error() string {
	return fmt.Sprintf("tables of subscription %q cannot be copied in a transaction that has written", e.Subscription)
}

// SQLState classifies it as active_sql_transaction.
func (e *UncommittedError) SQLState() string { return "25001" }

// Hint says what to do instead.
func (e *UncommittedError) Hint() string {
	return fmt.Sprintf("The copy would hold rows that are not committed. Commit first, and run SELECT courier.ship(%s) in a transaction of its own.",
		literal(e.Subscription))
}

// Hint returns what err advises to do, or "".
func Hint(err error) string {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) && hinter.Hint() != "" {
		return hinter.Hint()
	}
	var db *session.Error
	if errors.As(err, &db) {
		return db.Hint
	}
	return ""
}

// SQLState returns the SQLSTATE that describes err best.
func SQLState(err error) string {
	if state := session.SQLState(err); state != "" {
		return state
	}
	var drift *render.DriftError
	if errors.As(err, &drift) {
		return drift.SQLState()
	}
	var noKey *render.NoKeyError
	if errors.As(err, &noKey) {
		return "55000" // object_not_in_prerequisite_state
	}
	if Busy(err) {
		return "55006" // object_in_use
	}
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}
