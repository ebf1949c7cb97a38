package dblink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Stream is a connection to a node beside dblink's, which rows of a table are copied
// over with COPY: dblink can't do that. It is opened with the options that dblink
// would use, and its session is configured as a Link's is.
type Stream struct {
	session session.Session
	name    string
	node    string
	bounds  bounds
}

// OpenStream opens a stream to a link's node, closing one of the same name that an
// earlier user of the session left behind. Its session does not end for being idle,
// and bears the mark of a subscription; see Link.Patient and Link.Mark.
func (l *Link) OpenStream(ctx context.Context, key string) (*Stream, error) {
	s := &Stream{session: l.session, name: l.name, node: l.node, bounds: l.bounds}
	_, err := s.session.Query(ctx, "SELECT courier.stream_open($1, $2, $3::pg_catalog.int4)", s.name, l.server, milliseconds(s.bounds.connect))
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", s.node, err)
	}
	if _, err = s.Run(ctx, configuration(slices.Concat(settings, limitsOf(ctx).settings(true)))+"; "+markOf(key)); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// Close ends the stream, whatever its state.
func (s *Stream) Close(ctx context.Context) error {
	if _, err := s.session.Query(ctx, "SELECT courier.stream_close($1)", s.name); err != nil {
		return fmt.Errorf("close the connection to node %s: %w", s.node, err)
	}
	return nil
}

// Run runs a string of statements to their end, or to that of the last one, a COPY
// FROM STDIN, which then waits for Copy. It returns how many rows the last one has
// touched. The node's error is a *session.Error.
func (s *Stream) Run(ctx context.Context, sql string) (rows int64, err error) {
	return s.answer(ctx, "run", "courier.stream_run($1, $2, $3::pg_catalog.int4)", s.name, sql, milliseconds(patience))
}

// patience is how long a statement may take: its limit on the node is shorter.
const patience = 30 * time.Minute

// Copied is what Copy has read.
type Copied struct {
	Rows  int64
	Bytes int64
	Large bool // it stopped at a row that is larger than asked for
}

// Copy reads rows, see Rows, and puts them into the COPY that Run has begun. Which of
// them the node refuses is known at the end.
func (s *Stream) Copy(ctx context.Context, r *Rows) (Copied, error) {
	ctx = session.WithLimit(ctx, time.Hour)
	rows, err := s.session.Query(ctx, `SELECT rows, bytes, next IS NOT NULL
		FROM courier.stream_copy($1, $2, $3::pg_catalog.tid, $4::pg_catalog.tid, $5::pg_catalog.int4, $6::pg_catalog.int4)`,
		s.name, r.Query, r.First, r.Last, strconv.Itoa(r.Largest), milliseconds(s.bounds.silence))
	if err != nil {
		return Copied{}, fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	c := Copied{Large: string(rows[0][2]) == "t"}
	if c.Rows, err = strconv.ParseInt(string(rows[0][0]), 10, 64); err == nil {
		c.Bytes, err = strconv.ParseInt(string(rows[0][1]), 10, 64)
	}
	if err != nil {
		return Copied{}, fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	return c, nil
}

// End ends the COPY, and returns how many rows the node has taken.
func (s *Stream) End(ctx context.Context) (rows int64, err error) {
	return s.answer(ctx, "copy rows", "courier.stream_end($1, $2::pg_catalog.int4)", s.name, milliseconds(patience))
}

// answer takes the outcome that a function returns.
func (s *Stream) answer(ctx context.Context, what, call string, args ...any) (int64, error) {
	rows, err := s.session.Query(session.WithLimit(ctx, time.Hour), "SELECT rows, sqlstate, message, detail, hint FROM "+call, args...)
	if err != nil {
		return 0, fmt.Errorf("%s on node %s: %w", what, s.node, err)
	}
	row := rows[0]
	if row[1] != nil {
		return 0, withoutRows(&session.Error{SQLState: string(row[1]), Message: string(row[2]), Detail: string(row[3]), Hint: string(row[4])})
	}
	return strconv.ParseInt(string(row[0]), 10, 64)
}
