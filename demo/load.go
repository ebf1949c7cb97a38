package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// stopTimeout is how long the sidecar has to drain.
const stopTimeout = 20 * time.Second

func timeout(d time.Duration) <-chan time.Time { return time.After(d) }

// sample is what subscription_status says at one moment.
type sample struct {
	shipped, pending int64
	lag              float64 // seconds
	updated          time.Time
}

// load runs pgbench and prints a line a second about the subscription.
func (s *server) load(ctx context.Context, courier *sidecar) error {
	conn, err := s.Open(ctx, s.Name)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	last, err := takeSample(ctx, conn)
	if err != nil {
		return err
	}

	var out bytes.Buffer
	cmd := s.pgbenchCommand(ctx, "-c", "4", "-j", "2", "-T", strconv.Itoa(loadSeconds))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start pgbench: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	fmt.Printf("\n%6s  %14s  %15s  %9s\n", "second", "rows/s shipped", "pending changes", "lag")
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	rate := 0.0
	for second := 1; ; second++ {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("run pgbench on %s: %w\n%s", s.Name, err, out.String())
			}
			fmt.Println()
			printSummary(out.String())
			return nil
		case <-courier.done:
			cmd.Process.Kill()
			<-ended
			return fmt.Errorf("watch sidecar: it ended under load: %s", courier.cmd.ProcessState)
		case <-ticker.C:
		}
		now, err := takeSample(ctx, conn)
		if err != nil {
			cmd.Process.Kill()
			<-ended
			return err
		}
		// The shipper writes its count about once a second, so the rate is
		// over the time between two of its writes and holds until the next.
		if elapsed := now.updated.Sub(last.updated).Seconds(); elapsed > 0 {
			rate = float64(now.shipped-last.shipped) / elapsed
			last = now
		}
		fmt.Printf("%6d  %14.0f  %15d  %7.3f s\n", second, rate, now.pending, now.lag)
	}
}

func takeSample(ctx context.Context, conn *pgx.Conn) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var now sample
	err := conn.QueryRow(ctx, `
		SELECT coalesce(shipped, 0), coalesce(pending_changes, 0),
		       coalesce(extract(epoch FROM lag_time), 0)::float8, coalesce(updated_at, now())
		FROM courier.subscription_status WHERE subscription_name = $1`, subscription).
		Scan(&now.shipped, &now.pending, &now.lag, &now.updated)
	if err != nil {
		return sample{}, fmt.Errorf("read status of subscription %s: %w", subscription, err)
	}
	return now, nil
}

// printSummary shows the two lines of pgbench's report that matter here.
func printSummary(report string) {
	for line := range strings.Lines(report) {
		if strings.HasPrefix(line, "number of transactions actually") || strings.HasPrefix(line, "tps") {
			fmt.Fprint(os.Stdout, line)
		}
	}
	fmt.Println()
}
