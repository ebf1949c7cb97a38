package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
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
	shipper          string
	shipped, pending int64
	lag              float64 // seconds
	updated          time.Time
}

// load runs pgbench, starts a sidecar in the midst of it, and prints a line a
// second about the subscription. The sidecar, once started, is the caller's to
// stop, also after an error.
func (s *server) load(ctx context.Context) (courier *sidecar, err error) {
	conn, err := s.Open(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	last, err := takeSample(ctx, conn)
	if err != nil {
		return nil, err
	}

	var out bytes.Buffer
	cmd := s.pgbenchCommand(ctx, "-c", "4", "-j", "2", "-T", strconv.Itoa(loadSeconds))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if err != nil {
			cmd.Process.Kill() // an error says that it has ended
			<-ended
		}
	}()

	fmt.Printf("\n%6s  %-7s  %14s  %15s  %9s\n", "second", "shipper", "rows/s shipped", "pending changes", "lag")
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var sidecarEnded <-chan struct{} // nil until it is started
	var shippers []string            // one after the other
	rate := 0.0
	for second := 1; ; second++ {
		select {
		case failure := <-ended:
			ended <- failure
			if failure != nil {
				return courier, fmt.Errorf("run pgbench on %s: %w\n%s", s.Name, failure, out.String())
			}
			fmt.Println()
			printSummary(out.String())
			if !slices.Equal(shippers, []string{"worker", "sidecar"}) {
				return courier, fmt.Errorf("watch subscription %s: shipped by %v, want the worker and then the sidecar", subscription, shippers)
			}
			return courier, nil
		case <-sidecarEnded:
			return courier, fmt.Errorf("watch sidecar: it ended under load: %s", courier.cmd.ProcessState)
		case <-ticker.C:
		}
		now, err := takeSample(ctx, conn)
		if err != nil {
			return courier, err
		}
		// The shipper writes its count about once a second, so the rate is
		// over the time between two of its writes and holds until the next.
		if elapsed := now.updated.Sub(last.updated).Seconds(); elapsed > 0 {
			rate = float64(now.shipped-last.shipped) / elapsed
			last = now
		}
		if len(shippers) == 0 || shippers[len(shippers)-1] != now.shipper {
			shippers = append(shippers, now.shipper)
		}
		fmt.Printf("%6d  %-7s  %14.0f  %15d  %7.3f s\n", second, now.shipper, rate, now.pending, now.lag)
		if second == takeOverSecond {
			if courier, err = s.startCourier(); err != nil {
				return nil, err
			}
			sidecarEnded = courier.done
		}
	}
}

func takeSample(ctx context.Context, conn *pgx.Conn) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var now sample
	err := conn.QueryRow(ctx, `
		SELECT coalesce(shipper, 'none'), coalesce(shipped, 0), coalesce(pending_changes, 0),
		       coalesce(extract(epoch FROM lag_time), 0)::float8, coalesce(updated_at, now())
		FROM courier.subscription_status WHERE subscription_name = $1`, subscription).
		Scan(&now.shipper, &now.shipped, &now.pending, &now.lag, &now.updated)
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
