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
// without one comes from a broken connection. Only what speaks of the data may be
// Data: that is set aside as a dead letter where the subscription says so.
func Classify(err error) Class {
	if errors.Is(err, context.Canceled) {
		return Fatal
	}
	state := session.SQLState(err)
	if len(state) != 5 {
		return Unknown
	}
	if class, ok := conditions[state]; ok {
		return class
	}
	if class, ok := classes[state[:2]]; ok {
		return class
	}
	// PostgreSQL and its tools raise no other classes: what is left comes from
	// a function of the target's owner that refuses what it is given.
	return Data
}

// conditions are decided apart from their class.
var conditions = map[string]Class{
	StatePosition: Unknown,
	StateMissing:  Data,

	"25006": Transient, // read-only: a standby, or a fence while switching over
	"40002": Data,      // a constraint that is checked by the commit
	"40003": Unknown,   // says so itself: completion unknown
	"42P03": Unknown,   // cursor or prepared statement exists: a pooler has
	"42P05": Unknown,   // handed out a session that is not new
	"55006": Transient, // object in use
	"55P03": Transient, // lock_timeout
	"55P04": Transient, // an enum value that another transaction is adding
	"57000": Transient,
	"57014": Transient, // statement_timeout on the target
	"HV001": Transient, // resources of a foreign server behind the target,
	"HV014": Transient, // as in class 53
	"HV00N": Transient, // that server is down: the target itself answered
	"XX001": Fatal,     // corrupted data and indexes do not heal
	"XX002": Fatal,
}

// classes decide by the first two characters. Those left to Fatal never come of
// shipping, or no second try helps them.
var classes = map[string]Class{
	"00": Fatal, // not errors
	"01": Fatal,
	"02": Fatal,
	"03": Fatal,

	// the connection is gone, or is not in the state we think it is in
	"08": Unknown,
	"0B": Unknown,
	"24": Unknown,
	"25": Unknown, // timeouts that end a session among them
	"26": Unknown,
	"34": Unknown,
	"3B": Unknown,
	"57": Unknown, // server going down or coming up

	"40": Transient,
	"53": Transient,
	"58": Transient, // system and internal errors pass more often than they stay
	"72": Transient, // a snapshot that got too old; the next one is new
	"XX": Transient,

	// the row: constraints and values, and functions that refuse it, which
	// raise what they like
	"09": Data,
	"20": Data,
	"21": Data, // also two rows of a set that are one to the target, and pass one by one
	"22": Data,
	"23": Data,
	"27": Data,
	"38": Data, // how PL/Python and PL/Perl report what PL/pgSQL does as P0001
	"44": Data,
	"P0": Data,

	// tables, functions, privileges. Limits and prerequisites too, though a row
	// may meet them: among them is the refusal of all writes to a database that
	// is about to run out of transaction ids, which must not make dead letters.
	"0A": Schema,
	"0L": Schema,
	"0P": Schema,
	"0Z": Schema,
	"2B": Schema,
	"2D": Schema,
	"2F": Schema,
	"39": Schema,
	"3F": Schema,
	"42": Schema,
	"54": Schema,
	"55": Schema,
	"HV": Schema,

	"0F": Fatal,
	"28": Fatal,
	"3D": Fatal,
	"F0": Fatal,
	"PC": Fatal, // our own
}
