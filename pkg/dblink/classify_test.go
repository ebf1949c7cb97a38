package dblink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// byClass is what is expected of each class of testdata/errcodes, and why.
var byClass = map[string]Class{
	"00": Fatal,     // success is no error
	"01": Fatal,     // nor is a warning
	"02": Fatal,     // nor is "no data"
	"03": Fatal,     // not raised by PostgreSQL
	"08": Unknown,   // the connection broke or could not be made: whether a commit arrived, only the target knows; also dblink's 08001, 08003, 08006
	"09": Data,      // a trigger of the target refuses the row
	"0A": Schema,    // the relation there cannot do what is asked of it
	"0B": Unknown,   // the session is not where we left it
	"0F": Fatal,     // not raised by PostgreSQL
	"0L": Schema,    // grants on the target
	"0P": Schema,    // roles on the target
	"0Z": Schema,    // a function there is broken
	"20": Data,      // CASE without a branch for the row, in a trigger or a check
	"21": Data,      // two rows of a set are one to the target (citext, a coarser collation); they pass one by one
	"22": Data,      // a value the column cannot hold
	"23": Data,      // a constraint
	"24": Unknown,   // cursors belong to a session: get a new one
	"25": Unknown,   // transaction state: get a new session; 25P03 has ended ours
	"26": Unknown,   // prepared statements belong to a session: get a new one
	"27": Data,      // a trigger changed the row under the statement
	"28": Fatal,     // rejected by pg_hba.conf or for the password
	"2B": Schema,    // grants on the target
	"2D": Schema,    // a function there commits inside a trigger
	"2F": Schema,    // a function there is broken or not allowed
	"34": Unknown,   // as class 24
	"38": Data,      // what PL/Python and PL/Perl triggers raise to refuse a row
	"39": Schema,    // a function there breaks its protocol
	"3B": Unknown,   // savepoints belong to a session's transaction
	"3D": Fatal,     // no such database
	"3F": Schema,    // no such schema
	"40": Transient, // serialization failure, deadlock: the transaction is rolled back
	"42": Schema,    // tables, columns, types, functions, privileges
	"44": Data,      // WITH CHECK OPTION
	"53": Transient, // disk, memory, connections: never a dead letter
	"54": Schema,    // limits; 54000 also refuses every write before xid wraparound, so never a dead letter
	"55": Schema,    // the table is not in the state that writing to it takes (a publication without identity)
	"57": Unknown,   // the server goes down or comes up and takes the session with it
	"58": Transient, // the operating system under the target
	"72": Transient, // snapshot too old: the next one is new
	"F0": Fatal,     // configuration files
	"HV": Schema,    // the table is a foreign table and its definition is wrong
	"P0": Data,      // RAISE EXCEPTION in a trigger there refuses the row
	"XX": Transient, // "can't happen", cache lookups: passes more often than it stays
}

// byCondition is where a condition differs from its class.
var byCondition = map[string]Class{
	"read_only_sql_transaction":                  Transient, // a standby, a fence
	"transaction_integrity_constraint_violation": Data,      // a constraint checked by the commit
	"statement_completion_unknown":               Unknown,   // says so itself
	"duplicate_cursor":                           Unknown,   // the session is not new: a pooler
	"duplicate_prepared_statement":               Unknown,   // the same
	"object_in_use":                              Transient, // passes
	"lock_not_available":                         Transient, // lock_timeout
	"unsafe_new_enum_value_usage":                Transient, // its transaction will end
	"operator_intervention":                      Transient, // the session lives
	"query_canceled":                             Transient, // statement_timeout; the session lives
	"fdw_out_of_memory":                          Transient, // as class 53
	"fdw_too_many_handles":                       Transient, // as class 53
	"fdw_unable_to_establish_connection":         Transient, // a server behind the target is down
	"data_corrupted":                             Fatal,     // does not heal
	"index_corrupted":                            Fatal,     // does not heal
}

// TestClassifyEveryCondition goes through every condition of PostgreSQL 15.
// testdata/errcodes is made of the server's list of them by
//
//	awk '$2 ~ /^[EWS]$/ && NF >= 4 { print $1, $4 }' "$(pg_config --sharedir)"/errcodes.txt | LC_ALL=C sort -u
func TestClassifyEveryCondition(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("testdata/errcodes")
	require.NoError(t, err)
	seen := make(map[string]bool)
	for line := range strings.Lines(string(list)) {
		state, condition, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		expected, ok := byClass[state[:2]]
		require.True(t, ok, "class %s is not decided", state[:2])
		if own, ok := byCondition[condition]; ok {
			require.NotEqual(t, expected, own, "%s is as its class", condition)
			expected = own
		}
		seen[state[:2]], seen[condition] = true, true
		err := fmt.Errorf("apply: %w", &session.Error{SQLState: state})
		require.Equal(t, expected, Classify(err), "%s %s", state, condition)
	}
	for name := range byClass {
		require.True(t, seen[name], "class %s is not in the list", name)
	}
	for name := range byCondition {
		require.True(t, seen[name], "condition %s is not in the list", name)
	}
}

func TestClassifyOthers(t *testing.T) {
	t.Parallel()
	for state, class := range map[string]Class{
		StatePosition: Unknown,
		StateMissing:  Data,
		"PC999":       Fatal,   // ours, but of no version known here
		"25P04":       Unknown, // transaction_timeout of PostgreSQL 17 ends the session
		"MY001":       Data,    // a trigger's RAISE ... USING ERRCODE
	} {
		require.Equal(t, class, Classify(&session.Error{SQLState: state}), state)
	}
	require.Equal(t, Unknown, Classify(errors.New("unexpected EOF")), "no SQLSTATE: the connection broke")
	require.Equal(t, Unknown, Classify(fmt.Errorf("wait: %w", context.DeadlineExceeded)), "given up waiting: it may have been done")
	require.Equal(t, Fatal, Classify(fmt.Errorf("wait: %w", context.Canceled)), "whoever called wants no more of it")
}

func TestRowsAreTakenOutOfErrors(t *testing.T) {
	t.Parallel()
	for state, message := range map[string]string{"23514": "constraint c", "22P02": "a value does not fit the type of its column"} {
		e := withoutRows(&session.Error{SQLState: state, Message: "constraint c",
			Detail: "Failing row contains (secret).", Context: "secret", Hint: "h"})
		require.Equal(t, &session.Error{SQLState: state, Message: message, Hint: "h"}, e)
	}
	kept := session.Error{SQLState: "42P01", Message: "m", Detail: "d", Context: "c"}
	e := kept
	require.Equal(t, &kept, withoutRows(&e))
}
