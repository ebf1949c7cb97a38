// Command demo is the tutorial, live: two servers in a temporary directory,
// every statement a DBA would type with what psql answers, 15 seconds of
// pgbench, and a comparison of both sides at the end. make demo builds and
// runs it from the repository's root.
//
// It is a Go program and not a script for what it shares with the tests:
// servers that root may start too, on ports the kernel chose, and that end
// with it whatever ends it (package pgtest).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	sourceName   = "dblinkdemo1" // server, database and node alike
	targetName   = "dblinkdemo2"
	subscription = "to_dblinkdemo2"
	scale        = "5" // of pgbench: 500,000 accounts
	loadSeconds  = 15
)

var tables = []string{"pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"}

func main() {
	// Children are told to end when the thread that started them does
	// (PR_SET_PDEATHSIG); this goroutine starts them all, on one thread.
	runtime.LockOSThread()

	// The first signal ends the demo in order, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	err := run(ctx)
	interrupted := ctx.Err() != nil
	if cleanup := pgtest.Cleanup(); cleanup != nil {
		err = errors.Join(err, cleanup)
	}
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; everything it started has been stopped")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// run is the tutorial from its first line to its last.
func run(ctx context.Context) (err error) {
	heading("Two servers, each with pgbench's tables; the second one's are empty")
	source, err := start(ctx, sourceName, pgtest.Preload(true))
	if err != nil {
		return err
	}
	target, err := start(ctx, targetName)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\n\nend of the log of %s:\n%s\nend of the log of %s:\n%s",
				err, sourceName, source.LogTail(3000), targetName, target.LogTail(3000))
		}
	}()

	for _, step := range []func() error{
		func() error { return source.pgbench(ctx, "-i", "-q", "-s", scale) },
		func() error { return source.pgbench(ctx, "-n", "-t", "1000") },
		func() error { return target.pgbench(ctx, "-i", "-I", "tp") },
		func() error { return configure(ctx, source, target) },
	} {
		if err := step(); err != nil {
			return err
		}
	}

	heading("A shipper, and the existing rows")
	courier, err := source.startCourier()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, courier.stop(err != nil && ctx.Err() == nil)) }()
	if err := source.sql(ctx, wait("2 min")); err != nil {
		return err
	}
	if err := target.sql(ctx, "SELECT count(*) FROM pgbench_accounts;"); err != nil {
		return err
	}

	heading(fmt.Sprintf("%d seconds of pgbench on %s", loadSeconds, sourceName))
	if err := source.load(ctx, courier); err != nil {
		return err
	}
	if err := source.sql(ctx, wait("2 min")); err != nil {
		return err
	}

	heading("An event, delivered in order with the rows")
	for _, step := range []func() error{
		func() error {
			return source.sql(ctx, "SELECT courier.enqueue('greetings', 'hello from dblinkdemo1');")
		},
		func() error { return source.sql(ctx, wait("1 min")) },
		func() error {
			return target.sql(ctx, "SELECT channel, payload FROM courier_target.event;")
		},
		func() error {
			return target.expect(ctx, "SELECT count(*) FROM courier_target.event WHERE channel = 'greetings'", "1")
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}

	heading("Both sides, table by table")
	return compare(ctx, source, target)
}

// configure is all that pg_courier needs to know; only the source has it.
func configure(ctx context.Context, source, target *server) error {
	heading("The extension, the nodes")
	statements := []string{
		"CREATE EXTENSION pg_courier CASCADE;",
		"SELECT courier.set_local_node('dblinkdemo1');",
		fmt.Sprintf("SELECT courier.create_node('dblinkdemo2', dsn => '%s');", target.DSN(targetName)),
		"SELECT * FROM courier.ping('dblinkdemo2');",
		"",
		"What to send: tables with a key, and one without, which can only be inserted into",
		"SELECT courier.replication_set_add_table('default', 'pgbench_accounts');",
		"SELECT courier.replication_set_add_table('default', 'pgbench_branches');",
		"SELECT courier.replication_set_add_table('default', 'pgbench_tellers');",
		"SELECT courier.create_replication_set('history', replicate_update => false, replicate_delete => false);",
		"SELECT courier.replication_set_add_table('history', 'pgbench_history');",
		"",
		"Where to: a subscription, existing rows first",
		"SELECT courier.create_subscription('to_dblinkdemo2', 'dblinkdemo2',\n" +
			"           replication_sets => '{default,history}', copy_data => true);",
		"SELECT subscription_name, node_name, state, pending_changes FROM courier.subscription_status;",
	}
	for i, statement := range statements {
		switch {
		case statement == "":
		case i > 0 && statements[i-1] == "":
			heading(statement)
		default:
			if err := source.sql(ctx, statement); err != nil {
				return err
			}
		}
	}
	return source.expect(ctx, "SELECT count(*) FROM courier.ping('dblinkdemo2')", "1")
}

func wait(timeout string) string {
	return fmt.Sprintf("SELECT courier.wait_for_subscription('%s', '%s');", subscription, timeout)
}
