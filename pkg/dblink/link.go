package dblink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Link is an open dblink connection.
type Link struct {
	session session.Session
	schema  string // dblink's, quoted
	name    string
	node    string
	busy    bool

	// Replica says that the target's ordinary triggers and foreign keys do not
	// act on what is applied (session_replication_role = replica).
	Replica bool
}

// Outcome is what came of a string of statements.
type Outcome struct {
	Completed int            // statements that succeeded; the last one has not if the commit fails
	Counts    []int64        // rows each of them touched
	Err       *session.Error // of the first one that failed
}

// settings make text mean the same on the target as where it was written, and
// keep the planner to the index scans that a batch wants. Settings a role may
// not change are skipped.
var settings = [][2]string{
	{"search_path", "pg_catalog"},
	{"standard_conforming_strings", "on"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"lc_monetary", "C"},
	{"xmloption", "content"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"row_security", "off"}, // an error instead of rows silently left alone
	{"synchronous_commit", "off"},
	{"statement_timeout", "600s"},
	{"lock_timeout", "60s"},
	{"idle_in_transaction_session_timeout", "600s"},
	{"client_connection_check_interval", "1s"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_memoize", "off"},
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"jit", "off"},
	{"session_replication_role", "replica"},
	{"client_min_messages", "error"},     // a notice would end up in the source server's log
	{"log_min_error_statement", "panic"}, // a batch holds rows, which have no place in a log
	{"log_error_verbosity", "terse"},
}

// Open connects to a node through a foreign server, closing a connection of the
// same name that an earlier user of the session left behind.
func Open(ctx context.Context, s session.Session, name, node, server string) (*Link, error) {
	l := &Link{session: s, name: name, node: node}
	schema, ok, err := session.Value(ctx, s,
		`SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
		 JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'dblink'`)
	if err != nil {
		return nil, fmt.Errorf("look for dblink: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("look for dblink: %w", &session.Error{SQLState: "42704",
			Message: "the extension dblink is not installed in this database",
			Hint:    "Run CREATE EXTENSION dblink."})
	}
	l.schema = schema
	if err := l.Close(ctx); err != nil {
		return nil, err
	}
	if _, err = s.Query(ctx, "SELECT "+schema+".dblink_connect($1, $2)", name, server); err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", node, err)
	}
	if err = l.configure(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Link) configure(ctx context.Context) error {
	var sql strings.Builder
	sql.WriteString("DO $courier$ BEGIN\n")
	for _, setting := range settings {
		fmt.Fprintf(&sql, "BEGIN PERFORM pg_catalog.set_config('%s', '%s', false);"+
			" EXCEPTION WHEN insufficient_privilege OR undefined_object THEN NULL; END;\n", setting[0], setting[1])
	}
	sql.WriteString("END $courier$")
	if err := l.Exec(ctx, sql.String()); err != nil {
		return fmt.Errorf("prepare the session on node %s: %w", l.node, err)
	}
	rows, err := l.Query(ctx, "SELECT pg_catalog.current_setting('session_replication_role')", 1)
	if err != nil {
		return fmt.Errorf("prepare the session on node %s: %w", l.node, err)
	}
	l.Replica = string(rows[0][0]) == "replica"
	return nil
}

// Query runs one statement on the node and returns its rows, all columns as
// text; columns is their number.
func (l *Link) Query(ctx context.Context, sql string, columns int) ([]session.Row, error) {
	names := make([]string, columns)
	for i := range names {
		names[i] = "c" + strconv.Itoa(i) + " pg_catalog.text"
	}
	rows, err := l.session.Query(ctx, "SELECT * FROM "+l.schema+".dblink($1, $2) AS t("+
		strings.Join(names, ", ")+")", l.name, sql)
	if err != nil {
		return nil, fmt.Errorf("query node %s: %w", l.node, err)
	}
	return rows, nil
}

// Exec runs a string of statements on the node to its end. Each must give at
// most one column. A statement's error is returned as such.
func (l *Link) Exec(ctx context.Context, sql string) error {
	if err := l.Send(ctx, []byte(sql)); err != nil {
		return err
	}
	outcome, err := l.Wait(ctx)
	if err == nil && outcome.Err != nil {
		err = fmt.Errorf("execute on node %s: %w", l.node, outcome.Err)
	}
	return err
}

// Send starts a string of statements. Without an explicit BEGIN it is one
// transaction.
func (l *Link) Send(ctx context.Context, sql []byte) error {
	if len(sql) == 0 {
		return errors.New("send to node " + l.node + ": there is no statement")
	}
	if _, err := l.session.Query(ctx, "SELECT courier.remote_send($1, $2)", l.name, sql); err != nil {
		return fmt.Errorf("send to node %s: %w", l.node, err)
	}
	l.busy = true
	return nil
}

// Busy says that a Wait is due.
func (l *Link) Busy() bool { return l.busy }

const outcomeColumns = "completed, pg_catalog.array_to_string(counts, ','), sqlstate, message, detail, hint, context"

// Wait waits for the statements that Send started. An error here means that it
// is not known what became of them.
func (l *Link) Wait(ctx context.Context) (Outcome, error) {
	l.busy = false
	rows, err := l.session.Query(ctx, "SELECT "+outcomeColumns+" FROM courier.remote_wait($1)", l.name)
	if err != nil {
		return Outcome{}, fmt.Errorf("wait for node %s: %w", l.node, err)
	}
	return l.outcome(rows[0])
}

// Run is Send and Wait in one round trip, for when there is nothing to do in
// between. An error here means that it is not known what became of the
// statements.
func (l *Link) Run(ctx context.Context, sql []byte) (Outcome, error) {
	if len(sql) == 0 {
		return Outcome{}, errors.New("run on node " + l.node + ": there is no statement")
	}
	rows, err := l.session.Query(ctx, "SELECT "+outcomeColumns+" FROM courier.remote_run($1, $2)", l.name, sql)
	if err != nil {
		return Outcome{}, fmt.Errorf("run on node %s: %w", l.node, err)
	}
	return l.outcome(rows[0])
}

// outcome reads a row of outcomeColumns.
func (l *Link) outcome(row session.Row) (outcome Outcome, err error) {
	if outcome.Completed, err = strconv.Atoi(string(row[0])); err != nil {
		return Outcome{}, fmt.Errorf("wait for node %s: %w", l.node, err)
	}
	if len(row[1]) > 0 {
		for count := range strings.SplitSeq(string(row[1]), ",") {
			n, err := strconv.ParseInt(count, 10, 64)
			if err != nil {
				return Outcome{}, fmt.Errorf("wait for node %s: %w", l.node, err)
			}
			outcome.Counts = append(outcome.Counts, n)
		}
	}
	if row[2] != nil {
		outcome.Err = withoutRows(&session.Error{SQLState: string(row[2]), Message: string(row[3]),
			Detail: string(row[4]), Hint: string(row[5]), Context: string(row[6])})
	}
	return outcome, nil
}

// withoutRows takes out of an error what PostgreSQL quotes of rows: the detail
// and context of errors about data, and the whole message of those about values.
func withoutRows(e *session.Error) *session.Error {
	switch e.SQLState[:2] {
	case "22":
		e.Message = "a value does not fit the type of its column"
		e.Detail, e.Context = "", ""
	case "23", "44":
		e.Detail, e.Context = "", ""
	}
	return e
}

// Close closes the connection if it is open.
func (l *Link) Close(ctx context.Context) error {
	l.busy = false
	_, err := l.session.Query(ctx, "SELECT "+l.schema+".dblink_disconnect($1) WHERE $1 = ANY ("+
		l.schema+".dblink_get_connections())", l.name)
	if err != nil {
		return fmt.Errorf("close the connection to node %s: %w", l.node, err)
	}
	return nil
}
