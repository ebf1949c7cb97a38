package dblink

import (
	"context"
	"errors"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Class says what an error means for the work that met it.
type Class int

const (
	// Unknown outcome: the connection failed, and the work may or may not have
	// been committed. Connect again and ask the target.
	Unknown Class = iota
	// Transient: the work was not done, and the same work may succeed later.
	Transient
	// Data: the work does not fit what the target holds: a constraint, a value.
	Data
	// Schema: the target's tables or privileges are not what the work needs.
	Schema
	// Fatal: a person must act.
	Fatal
)

// SQLSTATEs that courier_target's functions raise.
const (
	// StatePosition: the target is not at the position the batch starts from.
	StatePosition = "PC001"
	// StateMissing: an update did not find its rows.
	StateMissing = "PC002"
)

// Classify says what an error means. It looks at SQLSTATEs only; an error
// without one comes from a broken connection.
func Classify(err error) Class {
	if errors.Is(err, context.Canceled) {
		return Fatal
	}
	state := session.SQLState(err)
	if len(state) != 5 {
		return Unknown
	}
	switch state {
	case StatePosition:
		return Unknown
	case StateMissing:
		return Data
	case "57P01", "57P02", "57P03", "57P04", "57P05": // server going down or coming up
		return Unknown
	case "57014", // statement_timeout on the target
		"55P03", // lock_timeout
		"55006", // object in use
		"25006": // read-only: a standby, or a fence while switching over
		return Transient
	case "42501":
		return Schema
	}
	switch state[:2] {
	case "08":
		return Unknown
	case "40", "53":
		return Transient
	case "22", "23", "44":
		return Data
	case "42", "3F", "0A":
		return Schema
	case "58", "XX":
		// system and internal errors pass more often than they stay
		return Transient
	}
	return Fatal
}
