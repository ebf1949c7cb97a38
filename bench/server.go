package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	database    = "bench"
	application = "courier_bench" // application_name of this program's sessions
)

// settings are those of every server, whatever it is used for: what built-in
// logical replication needs on the source costs everyone the same. Autovacuum
// is as by default.
var settings = map[string]string{
	"wal_level":          "logical",
	"shared_buffers":     "512MB",
	"max_wal_size":       "8GB",
	"checkpoint_timeout": "1h",
}

// createTable makes the table everything is measured with.
const createTable = `CREATE TABLE %s (aid int PRIMARY KEY, bid int NOT NULL, abalance int,
	filler text, ts timestamptz, amount numeric(12,2))`

// rowsOf selects rows $from to $to (printed in) for an INSERT into it.
const rowsOf = `SELECT i, i %% 100, 0, 'customer account number ' || i,
	timestamptz '2026-01-01 00:00:00.123456+00' + i * interval '1.001 second', (i %% 1000000) * 1.07
	FROM generate_series(%d, %d) AS i`

// server is a cluster with one session of the bench on its database.
type server struct {
	*pgtest.Cluster
	conn *pgx.Conn
}

// startServer starts a server with an empty database.
func startServer(ctx context.Context, name string, options ...pgtest.Option) (*server, error) {
	options = append([]pgtest.Option{pgtest.Name(name), pgtest.Settings(settings), pgtest.Durable()}, options...)
	cluster, err := pgtest.StartCluster(ctx, "", options...)
	if err != nil {
		return nil, err
	}
	s := &server{Cluster: cluster}
	if err := cluster.CreateDatabase(ctx, database); err != nil {
		return nil, errors.Join(err, s.destroy())
	}
	s.conn, err = pgx.Connect(ctx, cluster.SocketDSN(database)+" application_name="+application)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to cluster %s: %w", name, err), s.destroy())
	}
	return s, nil
}

func (s *server) destroy() error {
	if s.conn != nil {
		s.conn.Close(context.Background())
	}
	return s.Destroy()
}

// exec runs statements, several with ; between them.
func (s *server) exec(ctx context.Context, sql string) error {
	if _, err := s.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("run on %s: %w", s.Name, err)
	}
	return nil
}

// text is the one value a query yields, as text.
func (s *server) text(ctx context.Context, sql string) (string, error) {
	var value string
	if err := s.conn.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&value); err != nil {
		return "", fmt.Errorf("query %s: %w", s.Name, err)
	}
	return value, nil
}

// await polls a query until it answers true.
func (s *server) await(ctx context.Context, sql string) error {
	return poll(ctx, func() (bool, error) {
		value, err := s.text(ctx, "SELECT ("+sql+")::text")
		return value == "true", err
	})
}

// pair is a source and a target.
type pair struct {
	source, target *server
}

// startPair starts both with pg_courier preloaded, whoever ships.
func startPair(ctx context.Context, name string) (*pair, error) {
	source, err := startServer(ctx, name+"-source", pgtest.Preload(true))
	if err != nil {
		return nil, err
	}
	target, err := startServer(ctx, name+"-target", pgtest.Preload(true))
	if err != nil {
		return nil, errors.Join(err, source.destroy())
	}
	return &pair{source, target}, nil
}

func (p *pair) destroy() error {
	return errors.Join(p.source.destroy(), p.target.destroy())
}

// both runs the same on source and target.
func (p *pair) both(ctx context.Context, sql string) error {
	if err := p.source.exec(ctx, sql); err != nil {
		return err
	}
	return p.target.exec(ctx, sql)
}

// contents sums up the table, so that two of them can be compared.
const contents = `SELECT concat_ws(' ', count(*), sum(aid), sum(bid), sum(abalance), sum(length(filler)),
	sum(extract(epoch FROM ts)), sum(amount)) FROM acc`

// compare is an error unless source and target hold the same.
func (p *pair) compare(ctx context.Context) error {
	source, err := p.source.text(ctx, contents)
	if err != nil {
		return err
	}
	target, err := p.target.text(ctx, contents)
	if err != nil {
		return err
	}
	if source != target {
		return fmt.Errorf("target differs from source: counts and sums are %s, not %s", target, source)
	}
	return nil
}
