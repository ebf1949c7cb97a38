package dblink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Link is an open dblink connection.
type Link struct {
	session session.Session
	name    string
	node    string
	server  string
	busy    bool
	bounds  bounds
	patient bool // see Patient

	// The target's backend, by which it is asked for from another connection.
	pid     string
	started string // its backend_start, in seconds; 0 if it may not see that

	kept   int       // bytes of the command that is kept and yet to be sent
	roomy  bool      // see Room
	sent   int       // bytes of the command in flight
	sentAt time.Time // when it was begun to be sent
	pace   float64   // bytes a second that commands have taken lately; 0 is unknown

	// Replica says that the target's ordinary triggers and foreign keys do not
	// act on what is applied (session_replication_role = replica).
	Replica bool

	// Log, if set, is told at debug level what a long wait is for.
	Log *slog.Logger
}

// Outcome is what came of a string of statements.
type Outcome struct {
	Completed int            // statements that succeeded; the last one has not if the commit fails
	Counts    []int64        // rows each of them touched
	Value     string         // what the last of them gave
	Err       *session.Error // of the first one that failed
	// Verbatim is the same error as the node gave it. It may quote rows: it is
	// for tables of the source that hold those rows anyhow, never for a log.
	Verbatim *session.Error
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
	// a copy for reading is often read-only for everybody but us
	{"default_transaction_read_only", "off"},
	{"row_security", "off"}, // an error instead of rows silently left alone
	{"synchronous_commit", "off"},
	{"lock_timeout", "60s"},
	{"transaction_timeout", "0"},
	// The target notices a source that has vanished.
	{"client_connection_check_interval", "1s"},
	{"tcp_keepalives_idle", "5"},
	{"tcp_keepalives_interval", "3"},
	{"tcp_keepalives_count", "3"},
	{"tcp_user_timeout", "15000"},
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
	{"log_min_messages", "fatal"},        // and so do the messages of errors
	{"log_error_verbosity", "terse"},
}

// Open connects to a node through a foreign server, closing a connection of the
// same name that an earlier user of the session left behind.
func Open(ctx context.Context, s session.Session, name, node, server string) (*Link, error) {
	l := &Link{session: s, name: name, node: node, server: server, bounds: usual}
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	if err := l.Configure(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Link) connect(ctx context.Context) error {
	l.roomy = false
	_, err := l.session.Query(ctx, "SELECT courier.remote_connect($1, $2, $3::pg_catalog.int4)",
		l.name, l.server, milliseconds(l.bounds.connect))
	if err != nil {
		return fmt.Errorf("connect to node %s: %w", l.node, err)
	}
	return nil
}

// Configure makes the session what the package promises, and learns who it is,
// in one round trip. A new backend needs milliseconds to learn of a view like
// pg_stat_activity, so what is under it is asked.
func (l *Link) Configure(ctx context.Context) error {
	answer, err := l.value(ctx, configuration(slices.Concat(settings, limitsOf(ctx).settings(l.patient)))+"; "+identity)
	if err == nil {
		err = l.identify(answer)
	}
	if err != nil {
		return fmt.Errorf("prepare the session on node %s: %w", l.node, err)
	}
	return nil
}

// identity is the question that identify takes the answer of.
const identity = `SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_backend_pid(),
	(SELECT coalesce(extract(epoch from a.backend_start), 0)
	 FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a),
	pg_catalog.current_setting('session_replication_role'))`

func (l *Link) identify(answer string) error {
	fields := strings.Fields(answer)
	if len(fields) != 3 {
		return fmt.Errorf("it answered %d of 3 questions", len(fields))
	}
	l.pid, l.started, l.Replica = fields[0], fields[1], fields[2] == "replica"
	return nil
}

// configuration is the statement that makes settings, as far as the role may.
func configuration(settings [][2]string) string {
	var sql strings.Builder
	sql.WriteString("DO $courier$ BEGIN\n")
	for _, setting := range settings {
		fmt.Fprintf(&sql, "BEGIN PERFORM pg_catalog.set_config('%s', '%s', false);"+
			" EXCEPTION WHEN insufficient_privilege OR undefined_object THEN NULL; END;\n", setting[0], setting[1])
	}
	sql.WriteString("END $courier$")
	return sql.String()
}

// Query runs one statement on the node and returns its rows, all columns as
// text; columns is their number.
func (l *Link) Query(ctx context.Context, sql string, columns int) ([]session.Row, error) {
	rows, err := l.query(ctx, sql, columns)
	if err != nil {
		return nil, fmt.Errorf("query node %s: %w", l.node, err)
	}
	return rows, nil
}

// Rows returns what Query would, of one statement that Send started.
func (l *Link) Rows(ctx context.Context, columns int) ([]session.Row, error) {
	rows, err := l.rows(ctx, columns)
	if err != nil {
		return nil, fmt.Errorf("query node %s: %w", l.node, err)
	}
	return rows, nil
}

func (l *Link) query(ctx context.Context, sql string, columns int) ([]session.Row, error) {
	if err := l.send(ctx, []byte(sql)); err != nil {
		return nil, err
	}
	return l.rows(ctx, columns)
}

func (l *Link) rows(ctx context.Context, columns int) ([]session.Row, error) {
	l.busy = false
	_, err := l.await(ctx, "SELECT ready, silent, unacknowledged FROM courier.remote_poll($1, $2::pg_catalog.int4)")
	if err != nil {
		return nil, err
	}
	names := make([]string, columns)
	for i := range names {
		names[i] = "r[" + strconv.Itoa(i+1) + "]"
	}
	return l.session.Query(ctx, "SELECT "+strings.Join(names, ", ")+
		" FROM courier.remote_rows($1, $2::pg_catalog.int4) AS r", l.name, strconv.Itoa(columns))
}

// Exec runs a string of statements on the node to its end. Each must give at
// most one column, and a row if it gives any. A statement's error is returned
// as such.
func (l *Link) Exec(ctx context.Context, sql string) error {
	if _, err := l.value(ctx, sql); err != nil {
		return fmt.Errorf("execute on node %s: %w", l.node, err)
	}
	return nil
}

// value is Exec that returns what the last statement gave.
func (l *Link) value(ctx context.Context, sql string) (string, error) {
	if err := l.send(ctx, []byte(sql)); err != nil {
		return "", err
	}
	outcome, err := l.wait(ctx)
	if err == nil && outcome.Err != nil {
		err = outcome.Err
	}
	return outcome.Value, err
}

// Send starts a string of statements. Without an explicit BEGIN it is one
// transaction. It returns when the kernel has taken all of it, on a slow network
// after a while; a node that takes nothing is given up.
func (l *Link) Send(ctx context.Context, sql []byte) error {
	if len(sql) == 0 {
		return errors.New("send to node " + l.node + ": there is no statement")
	}
	if err := l.send(ctx, sql); err != nil {
		return fmt.Errorf("send to node %s: %w", l.node, err)
	}
	return nil
}

func (l *Link) send(ctx context.Context, sql []byte) error {
	_, err := l.sending(ctx, len(sql), "SELECT courier.remote_send($1, $2, $3::pg_catalog.int4)",
		l.name, sql, milliseconds(l.bounds.silence))
	return err
}

// sending runs a query that sends so many bytes to the node.
func (l *Link) sending(ctx context.Context, bytes int, query string, args ...any) ([]session.Row, error) {
	l.sent, l.sentAt = bytes, time.Now()
	// The local server watches over it, by whether bytes move.
	ctx = session.WithLimit(ctx, time.Minute+allowance(bytes, slowestPace))
	rows, err := l.session.Query(ctx, query, args...)
	if err == nil {
		l.busy = true
		return rows, nil
	}
	var db *session.Error
	if errors.As(err, &db) && db.SQLState == connectionFailure {
		return nil, l.lost("takes nothing of what is sent to it", time.Since(l.sentAt), db.Message)
	}
	return nil, err
}

// Busy says that a Wait is due.
func (l *Link) Busy() bool { return l.busy }

// outcomeColumns are what remote_wait() and remote_run() give.
const outcomeColumns = `ready, silent, unacknowledged, completed,
	pg_catalog.array_to_string(counts, ','), value, sqlstate, message, detail, hint, context`

// Wait waits for the statements that Send started, for as long as the node works
// on them. An error here means that it is not known what became of them.
func (l *Link) Wait(ctx context.Context) (Outcome, error) {
	outcome, err := l.wait(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("wait for node %s: %w", l.node, err)
	}
	return outcome, nil
}

// Run is Send and Wait in one round trip, for when there is nothing to do in
// between. An error here means that it is not known what became of the
// statements.
func (l *Link) Run(ctx context.Context, sql []byte) (Outcome, error) {
	if len(sql) == 0 {
		return Outcome{}, errors.New("run on node " + l.node + ": there is no statement")
	}
	rows, err := l.sending(ctx, len(sql), "SELECT "+outcomeColumns+
		" FROM courier.remote_run($1, $4::pg_catalog.int4, $2, $3::pg_catalog.int4)",
		l.name, sql, milliseconds(l.bounds.silence), milliseconds(min(l.bounds.look, longestPoll)))
	if err != nil {
		return Outcome{}, fmt.Errorf("run on node %s: %w", l.node, err)
	}
	if string(rows[0][0]) != "t" {
		return l.Wait(ctx)
	}
	l.measure()
	l.busy = false
	outcome, err := outcomeOf(rows[0])
	if err != nil {
		return Outcome{}, fmt.Errorf("run on node %s: %w", l.node, err)
	}
	return outcome, nil
}

func (l *Link) wait(ctx context.Context) (Outcome, error) {
	l.busy = false
	row, err := l.await(ctx, "SELECT "+outcomeColumns+" FROM courier.remote_wait($1, $2::pg_catalog.int4)")
	if err != nil {
		return Outcome{}, err
	}
	return outcomeOf(row)
}

// outcomeOf reads a row of outcomeColumns.
func outcomeOf(row session.Row) (Outcome, error) {
	row = row[waitColumns:]
	outcome := Outcome{Value: string(row[2])}
	var err error
	if outcome.Completed, err = strconv.Atoi(string(row[0])); err != nil {
		return Outcome{}, err
	}
	if outcome.Counts, err = parseNumbers(row[1]); err != nil {
		return Outcome{}, err
	}
	if row[3] != nil {
		outcome.Verbatim = &session.Error{SQLState: string(row[3]), Message: string(row[4]),
			Detail: string(row[5]), Hint: string(row[6]), Context: string(row[7])}
		shown := *outcome.Verbatim
		outcome.Err = withoutRows(&shown)
	}
	return outcome, nil
}

// parseNumbers reads whole numbers with commas between them.
func parseNumbers(text []byte) ([]int64, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var numbers []int64
	for number := range strings.SplitSeq(string(text), ",") {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
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

// Close closes the connection if it is open. It does not wait for the node.
func (l *Link) Close(ctx context.Context) error {
	l.busy = false
	if _, err := l.session.Query(ctx, "SELECT courier.remote_disconnect($1)", l.name); err != nil {
		return fmt.Errorf("close the connection to node %s: %w", l.node, err)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}
