package pgtest

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

// TB is what is needed of a testing.TB; not that one, so that programs that
// import this package do not link testing.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Start makes and starts a cluster that ends with the test. If the test
// failed, the end of the server's log is in the test's.
func Start(t TB, opts ...Option) *Cluster {
	t.Helper()
	c, err := StartCluster(context.Background(), "", opts...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of cluster %s:\n%s", c.Name, c.LogTail(8000))
		}
		if err := c.Destroy(); err != nil {
			t.Logf("%v", err)
		}
	})
	return c
}

// Cleaning wraps a testing.M so that Cleanup follows the tests: nothing is
// left for the watchdog to remove a moment after the process has ended.
// goleak.VerifyTestMain takes it in place of m.
func Cleaning(m interface{ Run() int }) interface{ Run() int } { return cleaning{m} }

type cleaning struct{ m interface{ Run() int } }

func (c cleaning) Run() int {
	code := c.m.Run()
	if err := Cleanup(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "clean up after tests:", err)
		return 1
	}
	return code
}

// Connect opens a connection as the superuser that ends with the test.
func (c *Cluster) Connect(t TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := c.Open(context.Background(), database)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// Database creates a database and gives its DSN.
func (c *Cluster) Database(t TB, name string) string {
	t.Helper()
	if err := c.CreateDatabase(context.Background(), name); err != nil {
		t.Fatalf("%v", err)
	}
	return c.DSN(name)
}

// Exec executes statements as the superuser; see Run.
func (c *Cluster) Exec(t TB, database, sql string, args ...any) {
	t.Helper()
	if err := c.Run(context.Background(), database, sql, args...); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
}

// Query gives a query's rows, every value in text form and NULL as "NULL".
func (c *Cluster) Query(t TB, database, sql string) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := c.Open(ctx, database)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("query %s of cluster %s: %v\nin: %s", database, c.Name, err, sql)
	}
	if len(results) == 0 {
		return nil
	}
	var rows [][]string
	for _, values := range results[len(results)-1].Rows {
		row := make([]string, len(values))
		for i, value := range values {
			row[i] = "NULL"
			if value != nil {
				row[i] = string(value)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// Value gives the one value of a query that yields one.
func (c *Cluster) Value(t TB, database, sql string) string {
	t.Helper()
	rows := c.Query(t, database, sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("query %s of cluster %s: %d rows instead of one value\nin: %s", database, c.Name, len(rows), sql)
	}
	return rows[0][0]
}

// Eventually waits until a query yields want.
func (c *Cluster) Eventually(t TB, database, sql, want string, timeout time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for {
		got := c.Value(t, database, sql)
		if got == want {
			return
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			t.Fatalf("wait for %q on %s of cluster %s: still %q after %s\nin: %s",
				want, database, c.Name, got, timeout, sql)
		}
	}
}
