package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// commitPeer is who waits while sessions commit.
type commitPeer struct {
	Name    string
	waiters int
}

// commitPeers: the first is what the others are compared with.
var commitPeers = []commitPeer{
	{"nobody waits", 0},
	{"a subscriber waits", 1},
	{"ten subscribers wait", 10},
}

// A waiter does as a shipper does: it waits until something has been committed,
// is busy for a millisecond (shipping it takes longer), and waits again.
const waiter = `DO $$ BEGIN
	LOOP
		PERFORM courier.wait_for_changes('1 s');
		PERFORM pg_sleep(0.001);
	END LOOP; END $$`

const commitGoal = 0.95

// commitRun is the throughput of sessions that commit tiny transactions.
type commitRun struct {
	Round int     `json:"round"`
	Peer  string  `json:"peer"`
	Rate  float64 `json:"transactions_per_s"`
}

// measureCommit times sessions that each commit a captured row at a time, with
// pgbench, with and without others that wait for it.
func measureCommit(ctx context.Context, c *config) (runs []commitRun, err error) {
	s, err := startServer(ctx, "commit", pgtest.Preload(true), pgtest.Setting("max_connections", strconv.Itoa(c.commitSessions+30)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.destroy()) }()
	// A disabled subscription captures all the same; nobody ships.
	if err := s.exec(ctx, `CREATE TABLE tiny (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);
		CREATE EXTENSION pg_courier CASCADE;
		SELECT courier.set_local_node('source');
		SELECT courier.create_node('target', 'host=127.0.0.1 port=1 dbname=none');
		SELECT courier.replication_set_add_table('default', 'tiny');
		SELECT courier.create_subscription('s', 'target', copy_data => false, enabled => false)`); err != nil {
		return nil, err
	}
	script := filepath.Join(s.Dir, "commit.sql")
	if err := os.WriteFile(script, []byte("INSERT INTO tiny (v) VALUES (1);\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	for round := 0; round <= c.commitRounds; round++ { // round 0 warms up
		for i := range commitPeers {
			peer := &commitPeers[(i+round)%len(commitPeers)]
			rate, err := s.commitRound(ctx, peer, c, script)
			if err != nil {
				return nil, fmt.Errorf("measure commits while %s: %w", peer.Name, err)
			}
			if round > 0 {
				runs = append(runs, commitRun{round, peer.Name, rate})
			}
			progress("commit: round %d of %d, %s: %.0f transactions/s", round, c.commitRounds, peer.Name, rate)
		}
	}
	return runs, nil
}

var pgbenchRate = regexp.MustCompile(`(?m)^tps = ([0-9.]+) `)

func (s *server) commitRound(ctx context.Context, peer *commitPeer, c *config, script string) (float64, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return 0, err
	}
	if err := s.exec(ctx, "TRUNCATE tiny, courier.queue_0, courier.queue_1, courier.queue_2; CHECKPOINT"); err != nil {
		return 0, err
	}
	dismiss, err := s.startWaiters(ctx, peer.waiters)
	if err != nil {
		return 0, err
	}
	defer dismiss()
	pgbench := exec.CommandContext(ctx, inst.Program("pgbench"), "-n", "-M", "prepared", "-f", script,
		"-h", s.SocketDir, "-p", strconv.Itoa(s.Port), "-U", pgtest.Superuser,
		"-c", strconv.Itoa(c.commitSessions), "-j", "2", "-T", strconv.Itoa(c.commitSeconds), database)
	out, err := pgbench.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("run pgbench: %w\n%s", err, out)
	}
	match := pgbenchRate.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("read pgbench's report: no rate in %s", strings.TrimSpace(string(out)))
	}
	return strconv.ParseFloat(string(match[1]), 64)
}

// startWaiters starts sessions that wait for changes, until dismissed.
func (s *server) startWaiters(ctx context.Context, n int) (dismiss func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, n)
	running := 0
	dismiss = func() {
		cancel()
		for range running {
			<-done
		}
	}
	for range n {
		conn, err := pgx.Connect(ctx, s.SocketDSN(database)+" application_name="+application)
		if err != nil {
			dismiss()
			return nil, fmt.Errorf("connect a waiter: %w", err)
		}
		running++
		go func() {
			// Cancelled in the end, which is its only way to end.
			_, _ = conn.Exec(ctx, waiter)
			closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = conn.Close(closing)
			done <- struct{}{}
		}()
	}
	return dismiss, s.await(ctx, fmt.Sprintf("SELECT courier.waiters() = %d", n))
}
