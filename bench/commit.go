package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// commitPeer is who waits while sessions commit.
type commitPeer struct {
	name    string
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

// measureCommit times sessions that each commit a captured row at a time, with
// pgbench, with and without others that wait for it. pgbench runs all the while;
// the waiters come and go, so that a noisy neighbour meets all of them.
func (b *bench) measureCommit(ctx context.Context) (err error) {
	s, err := startServer(ctx, "commit", pgtest.Preload(true), pgtest.Setting("courier.workers", "off"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.destroy()) }()
	tiny := &table{name: "tiny", key: "id", columns: "id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int"}
	if err := s.exec(ctx, createTables([]*table{tiny})); err != nil {
		return err
	}
	if err := captureCourier(ctx, s, []*table{tiny}); err != nil {
		return err
	}
	end, err := s.startCommitting(b.config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	// round 0 warms up
	return rounds(b, ctx, 0, b.commitRounds, commitPeers, func(p commitPeer) string { return p.name }, func(peer commitPeer, round int) error {
		rate, err := s.commitRate(ctx, &peer, time.Duration(b.commitSeconds)*time.Second)
		if err != nil || round == 0 {
			return err
		}
		b.record(sample{Case: fmt.Sprintf("%d sessions", b.commitSessions), System: peer.name, Round: round, Values: map[string]float64{"rate": rate}})
		return nil
	})
}

// startCommitting starts pgbench, which runs until it is ended.
func (s *server) startCommitting(c *config) (end func() error, err error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return nil, err
	}
	script := filepath.Join(s.Dir, "commit.sql")
	if err := os.WriteFile(script, []byte("INSERT INTO tiny (v) VALUES (1);\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	var output bytes.Buffer
	pgbench := exec.Command(inst.Program("pgbench"), "-n", "-M", "prepared", "-f", script,
		"-h", s.SocketDir, "-p", strconv.Itoa(s.Port), "-U", pgtest.Superuser,
		"-c", strconv.Itoa(c.commitSessions), "-j", "2", "-T", "86400", database)
	pgbench.Stdout, pgbench.Stderr = &output, &output
	pgbench.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := pgbench.Start(); err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	return func() error {
		if err := pgbench.Process.Kill(); err != nil {
			return fmt.Errorf("end pgbench: %w\n%s", err, &output)
		}
		_ = pgbench.Wait() // it was killed
		return nil
	}, nil
}

// commitRate is how many transactions are committed a second while so many wait.
func (s *server) commitRate(ctx context.Context, peer *commitPeer, duration time.Duration) (float64, error) {
	dismiss, err := s.startWaiters(ctx, peer.waiters)
	if err != nil {
		return 0, err
	}
	defer dismiss()
	before, err := s.committed(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	select {
	case <-time.After(duration):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := s.committed(ctx)
	if err != nil {
		return 0, err
	}
	if after == before {
		return 0, errors.New("nothing was committed")
	}
	return float64(after-before) / time.Since(start).Seconds(), nil
}

// committed is how many rows were inserted.
func (s *server) committed(ctx context.Context) (int64, error) {
	text, err := s.text(ctx, "SELECT last_value::text FROM tiny_id_seq")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
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
	return dismiss, nil
}
