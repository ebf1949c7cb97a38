package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// closeTimeout bounds the farewell to a server that may be gone.
const closeTimeout = 2 * time.Second

// PGX is a Session over a connection of its own.
type PGX struct {
	conn *pgx.Conn
	net  *conn
}

// Connect opens a session. The dsn is a libpq connection string or URI; what it
// leaves out comes from the PG… environment variables, as in psql.
func Connect(ctx context.Context, dsn string) (*PGX, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse the connection string: %w", withoutPassword(err))
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "pg_courier"
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	d := &dialer{timeout: config.ConnectTimeout}
	config.DialFunc = d.dial
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s:%d, database %s: %w",
			config.Host, config.Port, config.Database, databaseError(err))
	}
	s := &PGX{conn: conn, net: d.conn}
	// Queued text is in the database's encoding and is passed through as it
	// is, so the client speaks that encoding too.
	if _, err = s.Query(ctx, setup); err != nil {
		s.Close(ctx)
		return nil, fmt.Errorf("prepare the session: %w", err)
	}
	return s, nil
}

// setup makes the text of values the same whatever the role prefers, and lets the
// server notice that we have vanished. What is written to the source are notes,
// which may be lost in a crash. Every role may change all of these.
const setup = `SELECT pg_catalog.set_config('client_encoding', pg_catalog.pg_encoding_to_char(d.encoding), false),
       pg_catalog.set_config('search_path', 'pg_catalog', false),
       pg_catalog.set_config('statement_timeout', '0', false),
       pg_catalog.set_config('idle_session_timeout', '0', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false),
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL -- from PostgreSQL 17 on
            THEN pg_catalog.set_config('transaction_timeout', '0', false) END,
       pg_catalog.set_config('DateStyle', 'ISO', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false),
       pg_catalog.set_config('TimeZone', 'UTC', false),
       pg_catalog.set_config('extra_float_digits', '1', false),
       pg_catalog.set_config('lc_monetary', 'C', false),
       pg_catalog.set_config('row_security', 'off', false),
       pg_catalog.set_config('synchronous_commit', 'off', false),
       pg_catalog.set_config('max_parallel_workers_per_gather', '0', false),
       pg_catalog.set_config('jit', 'off', false),
       pg_catalog.set_config('tcp_keepalives_idle', '5', false),
       pg_catalog.set_config('tcp_keepalives_interval', '3', false),
       pg_catalog.set_config('tcp_keepalives_count', '3', false),
       pg_catalog.set_config('tcp_user_timeout', '15000', false),
       pg_catalog.set_config('client_connection_check_interval', '1s', false)
FROM pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database()`

// withoutPassword drops everything a parse error says about the string itself.
func withoutPassword(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return errors.New("it is not of the form 'host=… dbname=… user=…' or postgresql://user@host/dbname")
	}
	return err
}

func databaseError(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return &Error{SQLState: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint, Context: e.Where}
	}
	return err
}

// Query implements Session. When no byte comes or goes for the limit of ctx (see
// WithLimit), it gives an error, and the connection is closed without waiting for
// the server.
func (s *PGX) Query(ctx context.Context, sql string, args ...any) ([]Row, error) {
	rows, err := s.query(s.net.watch(ctx, limitOf(ctx)), sql, args)
	if expired := s.net.unwatch(); expired != nil && err != nil {
		return nil, expired
	}
	return rows, err
}

func (s *PGX) query(ctx context.Context, sql string, args []any) ([]Row, error) {
	// text for all but bytea
	params := append([]any{pgx.QueryResultFormatsByOID{pgtype.ByteaOID: pgx.BinaryFormatCode}}, args...)
	rows, err := s.conn.Query(ctx, sql, params...)
	if err != nil {
		return nil, databaseError(err)
	}
	defer rows.Close()
	var result []Row
	var c copier
	for rows.Next() {
		result = append(result, c.row(rows.RawValues()))
	}
	if err := rows.Err(); err != nil {
		return nil, databaseError(err)
	}
	return result, nil
}

// Blocks in which the rows of a result are laid out: the queue has many small
// ones. The first is small, as most results are; each next one is four times as
// large, up to these.
const (
	valueBlock = 64 << 10 // bytes
	rowBlock   = 2048     // values
	firstPart  = 256      // of either
)

// copier copies rows out of the connection's read buffer, many to a block.
type copier struct {
	bytes  []byte
	values [][]byte
}

// nextBlock is the size of the block that follows one of a size.
func nextBlock(size, largest int) int {
	if size == 0 {
		return largest / firstPart
	}
	return min(4*size, largest)
}

func (c *copier) row(raw [][]byte) Row {
	if cap(c.values)-len(c.values) < len(raw) {
		c.values = make([][]byte, 0, max(nextBlock(cap(c.values), rowBlock), len(raw)))
	}
	first := len(c.values)
	for _, value := range raw {
		c.values = append(c.values, c.copy(value))
	}
	return c.values[first:len(c.values):len(c.values)]
}

func (c *copier) copy(value []byte) []byte {
	if value == nil {
		return nil
	}
	if cap(c.bytes)-len(c.bytes) < len(value) {
		c.bytes = make([]byte, 0, max(nextBlock(cap(c.bytes), valueBlock), len(value)))
	}
	start := len(c.bytes)
	c.bytes = append(c.bytes, value...)
	return c.bytes[start:len(c.bytes):len(c.bytes)]
}

// Pinned implements Session with a REPEATABLE READ transaction.
func (s *PGX) Pinned(ctx context.Context, tables []string, f func() error) error {
	if _, err := s.Query(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return fmt.Errorf("begin a consistent read: %w", err)
	}
	err := s.lock(ctx, tables)
	if err == nil {
		err = f()
	}
	if err != nil {
		// The connection may be gone; then so is the transaction.
		_, _ = s.Query(ctx, "ROLLBACK")
		return err
	}
	if _, err := s.Query(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("end a consistent read: %w", err)
	}
	return nil
}

// lockLimit is how long other sessions may hold what Pinned waits for.
const lockLimit = 10 * time.Minute

// lock takes no snapshot, so it may come first in the transaction.
func (s *PGX) lock(ctx context.Context, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	if _, err := s.Query(WithLimit(ctx, lockLimit), LockTables(tables)); err != nil {
		return fmt.Errorf("lock the tables against schema changes: %w", err)
	}
	return nil
}

// Share implements Session.
func (s *PGX) Share(ctx context.Context) (string, error) {
	snapshot, _, err := Value(ctx, s, "SELECT pg_catalog.pg_export_snapshot()")
	if err != nil {
		return "", fmt.Errorf("share a consistent read: %w", err)
	}
	return snapshot, nil
}

// Closed reports whether the connection has ended, by an error or by Close.
func (s *PGX) Closed() bool { return s.conn.IsClosed() }

// Close ends the connection, even if ctx is over, and waits for that a little.
func (s *PGX) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	s.net.given.Store(true)
	// An error here says that the connection is gone, which is what is wanted.
	_ = s.conn.Close(ctx)
	select {
	case <-s.conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}
