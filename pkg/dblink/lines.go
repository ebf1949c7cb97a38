package dblink

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Lines are light dblink connections of one session that are asked side by
// side: a node that is silent keeps no other from being heard. They carry small
// questions, not batches, and so are not configured as a Link is.
type Lines struct {
	session session.Session
	schema  string // dblink's, as it is
	dblink  string // quoted
}

// Question is a string of statements for a line.
type Question struct{ Line, SQL string }

// Answer is what came of a Question. The times are the local database's.
type Answer struct {
	Line     string
	Sent     time.Time // zero if it was asked in an earlier call
	Answered time.Time // zero: not yet, wait for it in the next call
	Values   []int64   // of each statement: what its one column or its tag says
	Err      *session.Error
}

// NewLines makes ready to open lines in a session.
func NewLines(ctx context.Context, s session.Session) (*Lines, error) {
	schema, _, err := session.Value(ctx, s, "SELECT courier.dblink_schema()")
	if err != nil {
		return nil, fmt.Errorf("look for dblink: %w", err)
	}
	return &Lines{session: s, schema: schema, dblink: `"` + strings.ReplaceAll(schema, `"`, `""`) + `"`}, nil
}

// Try connects to foreign servers side by side and leaves them again. It can be
// cancelled, waits for patience at most whatever their connect_timeout, and
// gives nil for each that let us in.
func (l *Lines) Try(ctx context.Context, servers []string, patience time.Duration) ([]*session.Error, error) {
	rows, err := l.session.Query(ctx,
		"SELECT pg_catalog.unnest(courier.try_connect($1::pg_catalog.text[], $2::pg_catalog.int4))",
		textArray(servers), strconv.FormatInt(patience.Milliseconds(), 10))
	if err != nil {
		return nil, fmt.Errorf("try to connect: %w", err)
	}
	refusals := make([]*session.Error, len(rows))
	for i, row := range rows {
		if row[0] != nil {
			state, words, _ := strings.Cut(string(row[0]), " ")
			refusals[i] = &session.Error{SQLState: state, Message: words}
		}
	}
	return refusals, nil
}

// Connect opens a line to a foreign server. Up to PostgreSQL 15 nothing but
// connect_timeout bounds it.
func (l *Lines) Connect(ctx context.Context, line, server string) error {
	_, err := l.session.Query(ctx, "SELECT "+l.dblink+".dblink_connect($1, $2)", line, server)
	if err != nil {
		return fmt.Errorf("connect to foreign server %s: %w", server, err)
	}
	return nil
}

// Ask asks questions and waits, up to patience, for their answers and for those
// to lines that were asked in earlier calls. A line has one question at a time.
// An error means that the state of all lines is unknown.
func (l *Lines) Ask(ctx context.Context, questions []Question, asked []string, patience time.Duration) ([]Answer, error) {
	names := make([]string, len(questions))
	statements := make([]string, len(questions))
	for i, q := range questions {
		names[i], statements[i] = q.Line, q.SQL
	}
	rows, err := l.session.Query(ctx, `WITH sent AS MATERIALIZED (
	SELECT q.line, pg_catalog.clock_timestamp() AS at, `+l.dblink+`.dblink_send_query(q.line, q.statement) = 1 AS ok
	FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
	     AS q (line, statement)
), every AS MATERIALIZED (
	SELECT pg_catalog.array_agg(s.line) || $3::pg_catalog.text[] AS line,
	       pg_catalog.array_agg(s.at) AS at, pg_catalog.array_agg(s.ok) AS ok
	FROM sent AS s
)
SELECT r.line, (EXTRACT(epoch FROM r.at) * 1000000)::pg_catalog.int8, r.ok,
       (EXTRACT(epoch FROM r.ready) * 1000000)::pg_catalog.int8
FROM every AS e
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(e.line), pg_catalog.unnest(e.at), pg_catalog.unnest(e.ok),
	pg_catalog.unnest(courier.remote_ready($4::pg_catalog.name, e.line, $5::pg_catalog.int4)))
	AS r (line, at, ok, ready)`,
		textArray(names), textArray(statements), textArray(asked), l.schema,
		strconv.FormatInt(patience.Milliseconds(), 10))
	if err != nil {
		return nil, fmt.Errorf("ask nodes: %w", err)
	}
	answers := make([]Answer, len(rows))
	var ready []string
	for i, row := range rows {
		a := &answers[i]
		a.Line = string(row[0])
		if a.Sent, err = microseconds(row[1]); err == nil {
			a.Answered, err = microseconds(row[3])
		}
		if err != nil {
			return nil, fmt.Errorf("ask nodes: %w", err)
		}
		switch {
		case string(row[2]) == "f":
			a.Err = &session.Error{SQLState: "08006", Message: "the connection was lost"}
		case !a.Answered.IsZero():
			ready = append(ready, a.Line)
		}
	}
	if len(ready) == 0 {
		return answers, nil
	}
	return answers, l.fetch(ctx, answers, ready)
}

// fetch takes the answers of lines that have them.
func (l *Lines) fetch(ctx context.Context, answers []Answer, ready []string) error {
	rows, err := l.session.Query(ctx, `SELECT u.line, pg_catalog.array_to_string(w.counts, ','), w.sqlstate, w.message
		FROM pg_catalog.unnest($1::pg_catalog.text[]) AS u (line)
		CROSS JOIN LATERAL courier.remote_wait(u.line, 5000) AS w`, textArray(ready))
	if err != nil {
		return fmt.Errorf("fetch the answers of nodes: %w", err)
	}
	places := make(map[string]*Answer, len(answers))
	for i := range answers {
		places[answers[i].Line] = &answers[i]
	}
	for _, row := range rows {
		a := places[string(row[0])]
		if row[2] != nil {
			a.Err = &session.Error{SQLState: string(row[2]), Message: string(row[3])}
		}
		if len(row[1]) == 0 {
			continue
		}
		for text := range strings.SplitSeq(string(row[1]), ",") {
			value, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("fetch the answers of nodes: %w", err)
			}
			a.Values = append(a.Values, value)
		}
	}
	return nil
}

// Disconnect closes those lines that are open.
func (l *Lines) Disconnect(ctx context.Context, lines ...string) error {
	_, err := l.session.Query(ctx, "SELECT "+l.dblink+`.dblink_disconnect(u.line)
		FROM pg_catalog.unnest($1::pg_catalog.text[]) AS u (line)
		WHERE u.line = ANY (`+l.dblink+".dblink_get_connections())", textArray(lines))
	if err != nil {
		return fmt.Errorf("close connections to nodes: %w", err)
	}
	return nil
}

// microseconds reads a time given as microseconds since 1970; NULL is zero.
func microseconds(text []byte) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return time.UnixMicro(n), err
}

// textArray writes a text[] in PostgreSQL's form.
func textArray(values []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, value := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
