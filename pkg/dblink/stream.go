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
// would use, its session is configured as a Link's is, and it is watched as a Link is.
type Stream struct {
	session session.Session
	name    string
	node    string
	watched Link // never connected itself
}

// OpenStream opens a stream to a link's node, which can have one, and another beside
// it; it closes what an earlier user of the session left behind of the same. The
// stream's session does not end for being idle, and bears the mark of a subscription;
// see Link.Patient and Link.Mark.
func (l *Link) OpenStream(ctx context.Context, key string, beside bool) (*Stream, error) {
	name := l.name
	if beside {
		name += "_beside"
	}
	s := &Stream{session: l.session, name: name, node: l.node, watched: Link{session: l.session, name: name,
		node: l.node, server: l.server, bounds: l.bounds, Log: l.Log}}
	_, err := s.session.Query(ctx, "SELECT courier.stream_open($1, $2, $3::pg_catalog.int4)", s.name, l.server, milliseconds(l.bounds.connect))
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", s.node, err)
	}
	if err = s.prepare(ctx, key); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the session on node %s: %w", s.node, err), s.Close(ctx))
	}
	return s, nil
}

// prepare configures the stream's session, and learns who it is.
func (s *Stream) prepare(ctx context.Context, key string) error {
	if err := s.Send(ctx, configuration(slices.Concat(settings, limitsOf(ctx).settings(true)))+"; "+markOf(key)+"; "+identity); err != nil {
		return err
	}
	answer, err := s.take(ctx)
	if err != nil {
		return err
	}
	return s.watched.identify(string(answer[answerValue]))
}

// Close ends the stream, whatever its state.
func (s *Stream) Close(ctx context.Context) error {
	if _, err := s.session.Query(ctx, "SELECT courier.stream_close($1)", s.name); err != nil {
		return fmt.Errorf("close the connection to node %s: %w", s.node, err)
	}
	return nil
}

// Run runs a string of statements.
func (s *Stream) Run(ctx context.Context, sql string) error {
	if err := s.Send(ctx, sql); err != nil {
		return err
	}
	_, err := s.Take(ctx)
	return err
}

// Send sends a string of statements, of which the last may begin a COPY FROM STDIN.
// Take waits for it.
func (s *Stream) Send(ctx context.Context, sql string) error {
	s.watched.sent, s.watched.sentAt = len(sql), time.Now()
	if _, err := s.session.Query(ctx, "SELECT courier.stream_send($1, $2)", s.name, sql); err != nil {
		return fmt.Errorf("send to node %s: %w", s.node, err)
	}
	return nil
}

// Copied is what Copy has read.
type Copied struct {
	Rows  int64
	Bytes int64
	Next  string // place of the first row that was not sent, "" if all were
	Large bool   // that row is larger than asked for
}

const flush = "SELECT ready, silent, unacknowledged FROM courier.stream_flush($1, $2::pg_catalog.int4)"

// Flushed sends what it can of the rows that were put into the COPY, without waiting,
// and reports whether that was all.
func (s *Stream) Flushed(ctx context.Context) (bool, error) {
	rows, err := s.session.Query(ctx, flush, s.name, "0")
	if err != nil {
		return false, fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	return string(rows[0][0]) == "t", nil
}

// Copy reads rows, see Rows, and puts them into the COPY that was begun, as soon as
// those before them are on their way: the node inserts some while others are read.
// Which of them it refuses is known at the end.
func (s *Stream) Copy(ctx context.Context, r *Rows) (c Copied, err error) {
	if _, err = s.watched.await(ctx, flush); err != nil {
		return Copied{}, fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	rows, err := s.session.Query(ctx, `SELECT rows, bytes, next, large
		FROM courier.stream_copy($1, $2, $3::pg_catalog.tid, $4::pg_catalog.tid, $5::pg_catalog.int4, $6::pg_catalog.int4)`,
		s.name, r.Query, r.First, r.Last, strconv.Itoa(r.Most), strconv.Itoa(r.Largest))
	if err == nil {
		c.Next, c.Large = string(rows[0][2]), string(rows[0][3]) == "t"
		c.Rows, err = strconv.ParseInt(string(rows[0][0]), 10, 64)
	}
	if err == nil {
		c.Bytes, err = strconv.ParseInt(string(rows[0][1]), 10, 64)
	}
	if err != nil {
		return Copied{}, fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	s.watched.sent, s.watched.sentAt = int(c.Bytes), time.Now()
	return c, nil
}

// End ends the COPY. Take waits for it.
func (s *Stream) End(ctx context.Context) error {
	if _, err := s.session.Query(ctx, "SELECT courier.stream_end($1)", s.name); err != nil {
		return fmt.Errorf("copy rows to node %s: %w", s.node, err)
	}
	return nil
}

// Take waits until what was sent has run, or a COPY has begun, and returns how many
// rows the last statement has touched. The node's error is a *session.Error.
func (s *Stream) Take(ctx context.Context) (rows int64, err error) {
	answer, err := s.take(ctx)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(answer[answerRows]), 10, 64)
}

// Columns of what take returns.
const (
	answerRows = waitColumns + iota
	answerValue
	answerState
	answerMessage
	answerDetail
	answerHint
)

func (s *Stream) take(ctx context.Context) (session.Row, error) {
	row, err := s.watched.await(ctx, `SELECT ready, silent, unacknowledged, rows, value, sqlstate, message, detail, hint
		FROM courier.stream_take($1, $2::pg_catalog.int4)`)
	if err != nil {
		return nil, fmt.Errorf("wait for node %s: %w", s.node, err)
	}
	if row[answerState] != nil {
		return nil, withoutRows(&session.Error{SQLState: string(row[answerState]), Message: string(row[answerMessage]),
			Detail: string(row[answerDetail]), Hint: string(row[answerHint])})
	}
	return row, nil
}
