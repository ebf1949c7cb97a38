package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// wakeRounds is how often each way to wake a backend is tried. One library
// built without its precautions loses some of 200; see ext/engine.
const wakeRounds = 200

// promptly bounds what a signal to a backend may take to show.
const promptly = time.Second

// backend is a session whose process is looked at.
type backend struct {
	t    *testing.T
	conn *pgx.Conn
	pid  int
}

func connectBackend(t *testing.T, cluster *pgtest.Cluster) *backend {
	t.Helper()
	conn := cluster.Connect(t, appDatabase)
	return &backend{t: t, conn: conn, pid: int(conn.PgConn().PID())}
}

func (b *backend) exec(sql string, args ...any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := b.conn.Exec(ctx, sql, args...)
	require.NoError(b.t, err, sql)
}

// start executes a statement; what came of it arrives in the channel.
func (b *backend) start(sql string, args ...any) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := b.conn.Exec(ctx, sql, args...)
		done <- err
	}()
	return done
}

// maps is which libraries the process has opened; nothing if it has ended.
func (b *backend) maps() string {
	b.t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", b.pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return ""
	}
	require.NoError(b.t, err)
	return string(maps)
}

// blockedSignals is the mask of blocked signals of each thread, bit n-1 for
// signal n.
func (b *backend) blockedSignals() map[int]uint64 {
	b.t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", b.pid))
	require.NoError(b.t, err)
	require.NotEmpty(b.t, paths)
	masks := make(map[int]uint64)
	for _, path := range paths {
		thread, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(b.t, err)
		field, err := statusField(path, "SigBlk")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		require.NoError(b.t, err)
		masks[thread], err = strconv.ParseUint(field, 16, 64)
		require.NoError(b.t, err)
	}
	return masks
}

// statusField reads a field of a /proc/…/status file.
func statusField(path, name string) (string, error) {
	status, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("read %s: no field %s", path, name)
}

func blocks(mask uint64, signal syscall.Signal) bool {
	return mask&(1<<(uint(signal)-1)) != 0
}

func startItems(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE journal (id int, name text)")
	r.add("default", "item")
	r.addKeyless("journal")
	r.subscribe("{default,log}", false)
	return r
}

// A backend that only fires triggers has the C library in it and no Go; one that
// ships has both. So has, without Go, the backend of a sidecar.
func TestTriggersStartNoGo(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			// without workers, which would have shipped it all
			r := startItems(t, pgtest.Preload(preload), pgtest.Setting("courier.workers", "off"))
			b := connectBackend(t, r.source)
			b.exec("INSERT INTO item SELECT i, 'new' FROM generate_series(1, 1000) i")
			b.exec("BEGIN; SAVEPOINT a; UPDATE item SET name = 'x'; ROLLBACK TO a; DELETE FROM item WHERE id = 7; COMMIT")
			b.exec("SELECT courier.enqueue('orders', 'one')")
			b.exec("SELECT count(*) FROM courier.subscription_status")
			require.Contains(t, b.maps(), "/pg_courier.so")
			require.NotContains(t, b.maps(), "pg_courier_engine")
			require.Len(t, b.blockedSignals(), 1, "threads")

			shipping := connectBackend(t, r.source)
			shipping.exec("SELECT courier.ship($1)", subscription)
			require.Contains(t, shipping.maps(), "pg_courier_engine")
			require.Greater(t, len(shipping.blockedSignals()), 1, "threads")
			r.requireEqual("item")

			courier := r.startSidecar()
			b.exec("INSERT INTO item VALUES (2000, 'by sidecar')")
			r.wait()
			rows := r.source.Query(t, appDatabase, fmt.Sprintf(
				"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid NOT IN (%d, %d, pg_backend_pid())",
				b.pid, shipping.pid))
			require.NotEmpty(t, rows, "sessions of the sidecar")
			for _, row := range append(rows, []string{strconv.Itoa(r.source.PostmasterPID())}) {
				pid, err := strconv.Atoi(row[0])
				require.NoError(t, err)
				process := &backend{t: t, pid: pid}
				require.NotContains(t, process.maps(), "pg_courier_engine", "process %d", pid)
			}
			courier.stop()
		})
	}
}

// requireEngineBlocks requires that there are threads of the engine, and that each
// blocks the signals that are PostgreSQL's.
func (b *backend) requireEngineBlocks(masks map[int]uint64, when string) {
	b.t.Helper()
	require.Greater(b.t, len(masks), 1, "threads %s", when)
	for thread, mask := range masks {
		if thread == b.pid {
			continue
		}
		for _, signal := range []syscall.Signal{syscall.SIGURG, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1,
			syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGALRM, syscall.SIGPIPE} {
			require.True(b.t, blocks(mask, signal), "%s in thread %d of the engine %s, mask %x", signal, thread, when, mask)
		}
	}
}

// Shipping leaves the signals of the backend as they were, and those that Go's
// threads could take away from it are blocked there.
func TestSignalsStayBlocked(t *testing.T) {
	r := startItems(t)
	b := connectBackend(t, r.source)
	before := b.blockedSignals()
	require.Len(t, before, 1)
	require.True(t, blocks(before[b.pid], syscall.SIGURG), "SIGURG of a backend, mask %x", before[b.pid])
	require.False(t, blocks(before[b.pid], syscall.SIGTERM), "SIGTERM of a backend, mask %x", before[b.pid])

	check := func(when string, main uint64) {
		masks := b.blockedSignals()
		require.Equal(t, fmt.Sprintf("%x", main), fmt.Sprintf("%x", masks[b.pid]), "main thread %s", when)
		b.requireEngineBlocks(masks, when)
	}
	for i := range 20 {
		b.exec("INSERT INTO item SELECT i, 'new' FROM generate_series($1::int, $1::int + 999) i", i*1000)
		b.exec("SELECT courier.ship($1)", subscription)
		check("after a ship()", before[b.pid])
	}
	// an error that leaves through Go
	b.exec(`DO $$ BEGIN PERFORM courier.ship('nosuch'); EXCEPTION WHEN undefined_object THEN NULL; END $$`)
	check("after an error", before[b.pid])

	// in the midst of it, where SQL waits: as outside
	locker := r.target.Connect(t, appDatabase)
	_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked' WHERE id = 1")
	require.NoError(t, err)
	b.exec("UPDATE item SET name = 'changed' WHERE id = 1")
	done := b.start("SELECT courier.ship($1)", subscription)
	r.awaitBlocked()
	check("while ship() waits", before[b.pid])
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, <-done)
	r.requireEqual("item")
}

// awaitBlocked returns when a session of the target waits for another's lock.
func (r *replica) awaitBlocked() {
	r.t.Helper()
	r.target.Eventually(r.t, appDatabase,
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0", "t", patience)
}

// A backend with the engine in it is woken like any other: by a lock that is
// granted, by a notification, by a cancel.
func TestWakeUpsAfterShip(t *testing.T) {
	r := startItems(t)
	b := connectBackend(t, r.source)
	b.exec("INSERT INTO item VALUES (1, 'new')")
	b.exec("SELECT courier.ship($1)", subscription)
	// what is lost is not found by looking again
	b.exec("SET deadlock_timeout = '10min'")
	b.exec("LISTEN news")
	other := connectBackend(t, r.source)
	waits := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event_type = ", b.pid)
	await := func(event string) {
		eventually(t, "the backend to wait", func() bool {
			var n int
			require.NoError(t, other.conn.QueryRow(t.Context(), waits+event).Scan(&n))
			return n == 1
		})
	}
	slowest := time.Duration(0)
	woken := func(what string, round int, done <-chan error) error {
		start := time.Now()
		select {
		case err := <-done:
			slowest = max(slowest, time.Since(start))
			return err
		case <-time.After(5 * time.Second):
			t.Fatalf("round %d: %s did not wake the backend", round, what)
			return nil
		}
	}

	for round := range wakeRounds {
		other.exec("SELECT pg_advisory_lock(1)")
		done := b.start("SELECT pg_advisory_lock(1)")
		await("'Lock'")
		other.exec("SELECT pg_advisory_unlock(1)")
		require.NoError(t, woken("a lock", round, done))
		b.exec("SELECT pg_advisory_unlock(1)")
	}
	for round := range wakeRounds {
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := b.conn.WaitForNotification(ctx)
			done <- err
		}()
		other.exec("SELECT pg_notify('news', $1)", strconv.Itoa(round))
		require.NoError(t, woken("a notification", round, done))
	}
	for round := range wakeRounds {
		done := b.start("SELECT pg_sleep(60)")
		await("'Timeout'")
		other.exec("SELECT pg_cancel_backend($1)", b.pid)
		requireState(t, "57014", woken("a cancel", round, done))
	}
	t.Logf("slowest of %d wake-ups: %s", 3*wakeRounds, slowest)
	b.exec("INSERT INTO item VALUES (2, 'after')")
	b.exec("SELECT courier.ship($1)", subscription)
	r.requireEqual("item")
}

// requireState requires an SQL error with a SQLSTATE.
func requireState(t *testing.T, state string, err error) *pgconn.PgError {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, state, pgErr.Code, "%v", err)
	return pgErr
}

// engineSource is where the engine's main package is.
const engineSource = "../../ext/engine"

// faults takes the place of ext/engine/fault.go: the name of a subscription asks
// for a panic, or for one that begins as a signal of the processor.
const faults = `package main

type row struct{ next *row }

func beforeShip(subscription string) {
	switch subscription {
	case "panic":
		panic("a fault was asked for")
	case "nil pointer":
		var r *row
		r.next.next = r
	}
}
`

// buildFaultyEngine builds the engine with the faults that a subscription's name
// asks for, and returns what courier.engine_library takes.
func buildFaultyEngine(t *testing.T, dir string) string {
	t.Helper()
	return buildEngine(t, dir, "fault.go", faults)
}

// buildEngine builds the engine as the Makefile does, but with another content of
// one of its files.
func buildEngine(t *testing.T, dir, file, content string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	source, err := filepath.Abs(engineSource)
	require.NoError(t, err)
	replacement := filepath.Join(t.TempDir(), file)
	require.NoError(t, os.WriteFile(replacement, []byte(content), 0o644))
	overlay, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(source, file): replacement}})
	require.NoError(t, err)
	overlayFile := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o644))

	engine := filepath.Join(dir, "other_engine")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-overlay", overlayFile,
		"-buildmode=c-shared", "-tags", "netgo,osusergo,courier_fault",
		"-ldflags=-X=runtime.godebugDefault=asyncpreemptoff=1 -X=main.version=other",
		"-o", engine+".so", source)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Chmod(engine+".so", 0o755))
	return engine
}

// A panic in the engine, also one that a nil pointer raises, is an error of the
// statement. Session and server live on, and nothing of the subscription is lost.
func TestPanicIsAnError(t *testing.T) {
	r := startItems(t)
	engine := buildFaultyEngine(t, r.source.Dir)
	started := r.sourceValue("SELECT pg_postmaster_start_time()")
	for name, message := range map[string]string{
		"panic":       "a fault was asked for",
		"nil pointer": "nil pointer dereference",
	} {
		t.Run(name, func(t *testing.T) {
			b := connectBackend(t, r.source)
			b.exec("SELECT courier.version()") // loads the library, which has the setting
			b.exec("SELECT set_config('courier.engine_library', $1, false)", engine)
			b.exec("SELECT courier.create_subscription($1, $2, '{default}', copy_data => false)", name, targetNode)
			b.exec("INSERT INTO item SELECT coalesce(max(id), 0) + 1, 'new' FROM item")
			mask := b.blockedSignals()[b.pid]

			// Go prepares a thread when it enters for the first time, not later.
			for range 20 {
				_, err := b.conn.Exec(t.Context(), "SELECT courier.ship($1)", name)
				failure := requireState(t, "XX000", err)
				require.Contains(t, failure.Message, "panicked")
				require.Contains(t, failure.Message, message)
				require.Contains(t, failure.Detail, "ext/engine", "the stack")
				require.NotEmpty(t, failure.Hint)
			}
			require.Equal(t, mask, b.blockedSignals()[b.pid], "blocked signals after a panic")
			b.exec("BEGIN; SAVEPOINT a")
			_, err := b.conn.Exec(t.Context(), "SELECT courier.ship($1)", name)
			requireState(t, "XX000", err)
			b.exec("ROLLBACK TO a; INSERT INTO item SELECT max(id) + 1, 'in the same transaction' FROM item; COMMIT")

			b.exec("SELECT courier.ship($1)", subscription)
			_, err = b.conn.Exec(t.Context(), "SELECT courier.ship($1)", name)
			requireState(t, "XX000", err)
			b.exec("SELECT courier.drop_subscription($1)", name)
			r.requireEqual("item")
		})
	}
	require.Equal(t, started, r.sourceValue("SELECT pg_postmaster_start_time()"), "the server was not restarted")
	require.NotContains(t, r.source.LogTail(1<<20), "terminated by signal")
}
