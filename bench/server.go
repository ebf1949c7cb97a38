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
	"max_connections":    "300",
}

// server is a cluster with one session of the bench on one of its databases.
type server struct {
	*pgtest.Cluster
	database string
	conn     *pgx.Conn
}

// startServer starts a server with an empty database.
func startServer(ctx context.Context, name string, options ...pgtest.Option) (*server, error) {
	options = append([]pgtest.Option{pgtest.Name(name), pgtest.Settings(settings), pgtest.Durable()}, options...)
	cluster, err := pgtest.StartCluster(ctx, "", options...)
	if err != nil {
		return nil, err
	}
	s := &server{Cluster: cluster}
	first, err := s.create(ctx, database)
	if err != nil {
		return nil, errors.Join(err, cluster.Destroy())
	}
	return first, nil
}

// create makes another database of the cluster.
func (s *server) create(ctx context.Context, name string) (*server, error) {
	if err := s.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	return s.open(ctx, name)
}

// open is another session, of a database that is there.
func (s *server) open(ctx context.Context, name string) (*server, error) {
	conn, err := pgx.Connect(ctx, s.SocketDSN(name)+" application_name="+application)
	if err != nil {
		return nil, fmt.Errorf("connect to %s of cluster %s: %w", name, s.Name, err)
	}
	return &server{Cluster: s.Cluster, database: name, conn: conn}, nil
}

func (s *server) disconnect() { s.conn.Close(context.Background()) }

func (s *server) destroy() error {
	s.disconnect()
	return s.Destroy()
}

// exec runs statements, several with ; between them.
func (s *server) exec(ctx context.Context, sql string) error {
	if _, err := s.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("run on %s: %w", s.Name, err)
	}
	return nil
}

// execAll runs statements one by one: some may not share a transaction.
func (s *server) execAll(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if err := s.exec(ctx, sql); err != nil {
			return err
		}
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
		value, err := s.text(ctx, "SELECT coalesce(("+sql+")::boolean, false)::text")
		return value == "true", err
	})
}

// wholeRow is an alias of tables that none of their columns bears: as t it would be
// the column t of table mixed.
const wholeRow = "whole_row"

// contents sums up a table, so that two of them can be compared.
func (s *server) contents(ctx context.Context, table string) (string, error) {
	return s.text(ctx, fmt.Sprintf(
		`SELECT count(*) || ' rows, hash ' || coalesce(sum(hashtextextended(`+wholeRow+`::text, 0)), 0) FROM %s AS `+wholeRow, table))
}
