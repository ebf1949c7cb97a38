// Command demo is the tutorial, live: two servers in a temporary directory, and
// every statement a DBA would type with what psql answers. In its first act the
// database ships by itself; in the second, under 15 seconds of pgbench, a sidecar
// takes over. It ends with a comparison of both sides. make demo builds and runs
// it from the repository's root.
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

	// takeOverSecond is when, under load, the sidecar is started.
	takeOverSecond = 5
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
	heading("Two servers, each with pgbench's tables; the second one's are empty.\n" +
		"-- The first one has shared_preload_libraries = 'pg_courier'")
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
	err = steps(
		func() error { return source.pgbench(ctx, "-i", "-q", "-s", scale) },
		func() error { return source.pgbench(ctx, "-n", "-t", "1000") },
		func() error { return target.pgbench(ctx, "-i", "-I", "tp") },
	)
	if err != nil {
		return err
	}
	if err = firstAct(ctx, source, target); err != nil {
		return err
	}
	return secondAct(ctx, source, target)
}

// steps takes steps up to the first that fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// firstAct: the database ships by itself.
func firstAct(ctx context.Context, source, target *server) error {
	heading("FIRST ACT: the database ships by itself. The extension, the nodes")
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
		"Where to: a subscription, existing rows first. A background worker ships it from here on",
		"SELECT courier.create_subscription('to_dblinkdemo2', 'dblinkdemo2',\n" +
			"           replication_sets => '{default,history}', copy_data => true);",
		wait("2 min"),
		"SELECT subscription_name, node_name, state, shipper, pending_changes FROM courier.subscription_status;",
		"SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'pg_courier%' ORDER BY 1;",
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
	const count = "SELECT count(*) FROM pgbench_accounts"
	return steps(
		func() error { return source.expect(ctx, "SELECT shipper FROM courier.subscription_status", "worker") },
		func() error { return target.sql(ctx, count+";") },
		func() error { return target.expect(ctx, count, "500000") },
	)
}

// secondAct: a sidecar takes over under load.
func secondAct(ctx context.Context, source, target *server) (err error) {
	heading(fmt.Sprintf("SECOND ACT: %d seconds of pgbench on %s; a sidecar takes over after %d of them",
		loadSeconds, sourceName, takeOverSecond))
	courier, err := source.load(ctx)
	if courier != nil {
		defer func() { err = errors.Join(err, courier.stop(err != nil && ctx.Err() == nil)) }()
	}
	if err != nil {
		return err
	}
	if err = source.sql(ctx, wait("2 min")); err != nil {
		return err
	}

	heading("An event, delivered in order with the rows")
	const event = "FROM courier_target.event WHERE channel = 'greetings'"
	err = steps(
		func() error {
			return source.sql(ctx, "SELECT courier.enqueue('greetings', 'hello from dblinkdemo1');")
		},
		func() error { return source.sql(ctx, wait("1 min")) },
		func() error { return target.sql(ctx, "SELECT channel, payload "+event+";") },
		func() error { return target.expect(ctx, "SELECT count(*) "+event, "1") },
	)
	if err != nil {
		return err
	}

	heading("Both sides, table by table")
	return compare(ctx, source, target)
}

func wait(timeout string) string {
	return fmt.Sprintf("SELECT courier.wait_for_subscription('%s', '%s');", subscription, timeout)
}
