// Package session is how the engine reaches the database it works for.
//
// A Session has two forms: a pgx connection (here), used by the sidecar, and
// SPI in a backend (ext/engine). Everything above this package is written
// against the interface, and so runs in both.
package session

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Row is one row of a result: nil for NULL, the raw bytes for a bytea column,
// the text form for every other type. A row stays valid after the next query.
type Row [][]byte

// Session runs SQL in the local database. It is used by one goroutine.
//
// Statements use $1, $2, … with parameters that are a string, a []byte (text
// too) or nil, so a parameter that is not text is cast in the statement.
// Errors from the database are of type *Error.
type Session interface {
	Query(ctx context.Context, sql string, args ...any) ([]Row, error)
	// Pinned calls f; all queries f makes see the database at one moment. The
	// tables (names quoted as in SQL) are locked against DDL before that
	// moment: a table rewritten later would seem empty in it.
	Pinned(ctx context.Context, tables []string, f func() error) error
	// Share gives that moment a name, by which other sessions can see the database
	// at it until f returns. Only f may call it.
	Share(ctx context.Context) (snapshot string, err error)
}

// Error is an error the database reported.
type Error struct {
	SQLState string // five characters
	Message  string
	Detail   string
	Hint     string
	Context  string
}

// Error implements error. Detail and context are left out: they may hold
// values of rows. The SQLSTATE is shown by whoever reports the error.
func (e *Error) Error() string { return e.Message }

// SQLState returns the SQLSTATE of the database error in err's chain, or "".
func SQLState(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.SQLState
	}
	return ""
}

// DefaultLimit bounds a query without a limit of its own. It counts from the last
// byte that came or went, so a slow network alone does not use it up.
const DefaultLimit = 30 * time.Second

type limitKey struct{}

// WithLimit lets the queries made under a context go without an answer for as
// long as limit. In a backend the server's own settings bound them.
func WithLimit(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, limitKey{}, limit)
}

// limitOf returns the limit of queries made under ctx.
func limitOf(ctx context.Context) time.Duration {
	if limit, ok := ctx.Value(limitKey{}).(time.Duration); ok {
		return limit
	}
	return DefaultLimit
}

// LockTables is the statement that locks tables against DDL but nothing else.
func LockTables(tables []string) string {
	return "LOCK TABLE " + strings.Join(tables, ", ") + " IN ACCESS SHARE MODE"
}

// Value runs a query that gives one row of one column and returns it as text;
// no row and NULL give ok == false.
func Value(ctx context.Context, s Session, sql string, args ...any) (text string, ok bool, err error) {
	rows, err := s.Query(ctx, sql, args...)
	if err != nil || len(rows) == 0 || rows[0][0] == nil {
		return "", false, err
	}
	return string(rows[0][0]), true, nil
}
