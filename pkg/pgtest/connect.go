package pgtest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// queryTimeout bounds the statements of this package's own helpers.
const queryTimeout = 60 * time.Second

// DSN is a libpq keyword string for the superuser over TCP.
func (c *Cluster) DSN(database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s", c.Port, Superuser, quoteDSN(database))
}

// SocketDSN is the same over the Unix socket.
func (c *Cluster) SocketDSN(database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", quoteDSN(c.SocketDir), c.Port, Superuser, quoteDSN(database))
}

// DSNAs is for a role and its password over TCP.
func (c *Cluster) DSNAs(database, role, password string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s",
		c.Port, quoteDSN(role), quoteDSN(password), quoteDSN(database))
}

// quoteDSN quotes a value of a libpq keyword string where that is needed.
func quoteDSN(value string) string {
	if value != "" && !strings.ContainsAny(value, ` '\`) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// Open connects as the superuser.
func (c *Cluster) Open(ctx context.Context, database string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, c.DSN(database))
	if err != nil {
		return nil, fmt.Errorf("connect to %s on cluster %s: %w", database, c.Name, err)
	}
	return conn, nil
}

// Run executes statements, several with ; between them if there are no
// arguments, on a connection of their own.
func (c *Cluster) Run(ctx context.Context, database, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := c.Open(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("run on %s of cluster %s: %w", database, c.Name, err)
	}
	return nil
}

// CreateDatabase creates a database from template1; the name may be any.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) error {
	return c.Run(ctx, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}
