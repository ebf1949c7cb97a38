package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// readTimeout bounds connecting to a database and reading from it.
const readTimeout = 10 * time.Second

// Source says where to read. Its DSN appears in no report and no error.
type Source struct {
	Name string // how the database is called in reports
	DSN  string
}

// Reader reads the state of databases, again and again through the same
// sessions. It is used by one goroutine.
type Reader struct {
	databases []*reader
}

// New makes a Reader. Close it after use.
func New(sources []Source) *Reader {
	r := &Reader{}
	for _, source := range sources {
		r.databases = append(r.databases, &reader{source: source})
	}
	return r
}

// Read reads all databases at once; one that cannot be read has its Error set.
func (r *Reader) Read(ctx context.Context) *Report {
	report := &Report{Databases: make([]Database, len(r.databases))}
	var group sync.WaitGroup
	for i, d := range r.databases {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			report.Databases[i] = d.read(ctx)
		})
	}
	group.Wait()
	return report
}

// Close ends the sessions.
func (r *Reader) Close(ctx context.Context) {
	for _, d := range r.databases {
		if d.session != nil {
			d.session.Close(ctx)
		}
	}
}

type reader struct {
	source  Source
	session *session.PGX
}

func (r *reader) read(ctx context.Context) Database {
	d := Database{}
	err := r.fill(ctx, &d)
	if err != nil {
		d = Database{Error: describe(err)}
		if r.session != nil {
			r.session.Close(ctx) // the next time starts afresh
			r.session = nil
		}
	}
	d.Name = r.source.Name
	// scripts get empty lists, not null
	if d.Subscriptions == nil {
		d.Subscriptions = []Subscription{}
	}
	if d.Nodes == nil {
		d.Nodes = []Node{}
	}
	return d
}

func (r *reader) fill(ctx context.Context, d *Database) error {
	if r.session == nil {
		s, err := session.Connect(ctx, r.source.DSN)
		if err != nil {
			return err
		}
		r.session = s
		// the session speaks the database's encoding, JSON speaks UTF-8
		if _, err = s.Query(ctx, "SELECT pg_catalog.set_config('client_encoding', 'UTF8', false)"); err != nil {
			return fmt.Errorf("prepare the session: %w", err)
		}
	}
	return ReadFrom(ctx, r.session, d)
}

// ReadFrom reads the state of the database that a session is in, whose
// client_encoding is UTF8. Name and Error are left alone.
func ReadFrom(ctx context.Context, s session.Session, d *Database) error {
	version, ok, err := session.Value(ctx, s,
		"SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_courier'")
	if err != nil {
		return fmt.Errorf("look for the extension: %w", err)
	}
	if !ok {
		return errNoExtension
	}
	text, _, err := session.Value(ctx, s, query)
	if err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	// a database in SQL_ASCII may send anything
	if err = json.Unmarshal([]byte(strings.ToValidUTF8(text, "\uFFFD")), d); err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	d.Version = version
	return nil
}

var errNoExtension = &session.Error{SQLState: "42704",
	Message: "extension pg_courier is not installed in this database",
	Hint:    "Run CREATE EXTENSION pg_courier CASCADE there, or name another database."}

func describe(err error) *Error {
	e := &Error{Message: err.Error(), SQLState: session.SQLState(err)}
	var database *session.Error
	if errors.As(err, &database) {
		e.Hint = database.Hint
	}
	return e
}

// query gives a Database as JSON. The size of the queue is that of its files,
// which costs nothing to ask; counting what is in it would read all of it. Of
// node_status those columns are taken that it has.
const query = `
SELECT pg_catalog.jsonb_build_object(
    'read_at', pg_catalog.clock_timestamp(),
    'queue', pg_catalog.jsonb_build_object('bytes',
        (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)) FROM pg_catalog.pg_class c
         WHERE c.relnamespace = 'courier'::pg_catalog.regnamespace AND c.relkind = 'r' AND c.relname ~ '^queue_[0-9]+$')),
    'subscriptions',
        (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'subscription', s.subscription_name,
            'node', s.node_name,
            'state', s.state,
            'lag_seconds', EXTRACT(epoch FROM s.lag_time),
            'lag_bytes', s.lag_bytes,
            'pending_changes', s.pending_changes,
            'shipped', coalesce(s.shipped, 0),
            'shipper', coalesce(s.shipper, ''),
            'last_error', CASE WHEN s.last_error IS NOT NULL OR s.last_error_sqlstate IS NOT NULL
                THEN pg_catalog.jsonb_build_object('message', s.last_error, 'sqlstate', s.last_error_sqlstate,
                                                   'hint', s.last_error_hint) END,
            'next_retry_at', s.next_retry_at,
            'updated_at', s.updated_at) ORDER BY s.subscription_name)
         FROM courier.subscription_status s),
    'copies',
        (SELECT pg_catalog.jsonb_agg(` + CopyColumns + ` ORDER BY c.subscription_name, c.schema_name, c.table_name)
         FROM courier.copy_status c WHERE c.state <> 'copied'),
    'nodes',
        (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'node', n.j ->> 'node_name',
            'server', n.j ->> 'server_name',
            'subscriptions', n.j -> 'subscriptions',
            'shipping', n.j -> 'shipping',
            'retrying', n.j -> 'retrying',
            'stopped', n.j -> 'stopped',
            'state', n.j ->> 'state',
            'since', n.j ->> 'since',
            'reason', n.j ->> 'reason',
            'latency_seconds', EXTRACT(epoch FROM (n.j ->> 'latency')::pg_catalog.interval),
            'server_version', n.j ->> 'server_version',
            'clock_offset_seconds', EXTRACT(epoch FROM (n.j ->> 'clock_offset')::pg_catalog.interval),
            'connections_left', n.j -> 'connections_left') ORDER BY n.j ->> 'node_name')
         FROM (SELECT pg_catalog.to_jsonb(v) AS j FROM courier.node_status v) n))`
