// Command bench measures pg_courier beside its peers, in one run on the same
// machine, data and settings. `make bench` builds, installs and runs it from
// the repository's root; -help lists its flags.
//
// Two scenarios:
//
//	capture   what a row costs its own transaction: one INSERT and one UPDATE
//	          of 200,000 rows, with each way to capture of the table
//	          capturePeers. The statement is timed with its commit.
//	catchup   how fast a backlog is shipped: each workload of the table
//	          workloads is committed while shipping is stopped, then each
//	          system of the table systems is started and timed until the target
//	          has the last row.
//
// Systems alternate within a round and change their order from round to round,
// so that a noisy neighbour meets all of them. Ratios compare what ran in the
// same round. Every system gets a fresh pair of servers with the same settings
// (see settings), fsync on. Contents are compared after every workload; a
// difference is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// config is what the flags say.
type config struct {
	rounds        int // of catchup
	rows          int // of the backlogs; a tenth of it in single-row transactions
	captureRounds int
	captureRows   int
	only          string
	systems       string
	json          string
	courier       string
}

func parseFlags() (*config, error) {
	c := &config{}
	courier := os.Getenv("COURIER_BIN")
	if courier == "" {
		courier = "bin/courier"
	}
	flag.IntVar(&c.rounds, "rounds", 3, "rounds of catchup")
	flag.IntVar(&c.rows, "rows", 1_000_000, "rows of a backlog")
	flag.IntVar(&c.captureRounds, "capture-rounds", 5, "rounds of capture")
	flag.IntVar(&c.captureRows, "capture-rows", 200_000, "rows of a captured statement")
	flag.StringVar(&c.only, "only", "", "one `scenario`: capture or catchup")
	flag.StringVar(&c.systems, "systems", "", "catchup of these `systems` only, comma-separated: "+strings.Join(systemNames(), ", "))
	flag.StringVar(&c.json, "json", "", "write all measurements to `FILE` too")
	flag.StringVar(&c.courier, "courier", courier, "the sidecar's `program`")
	flag.Parse()

	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("there is no argument %q", flag.Arg(0))
	case c.only != "" && c.only != "capture" && c.only != "catchup":
		return nil, fmt.Errorf("-only %s: it is capture or catchup", c.only)
	case c.rounds < 1 || c.captureRounds < 1 || c.captureRows < 1:
		return nil, errors.New("rounds and rows start at 1")
	case c.rows < batchRows:
		return nil, fmt.Errorf("-rows: a backlog has at least %d rows", batchRows)
	}
	for _, name := range c.chosen() {
		if !slices.Contains(systemNames(), name) {
			return nil, fmt.Errorf("-systems: %q is none of %s", name, strings.Join(systemNames(), ", "))
		}
	}
	return c, nil
}

// chosen are the names of the systems to run.
func (c *config) chosen() []string {
	if c.systems == "" {
		return systemNames()
	}
	return strings.Split(c.systems, ",")
}

func main() {
	// Children are told to end when the thread that started them does
	// (PR_SET_PDEATHSIG); this goroutine starts them all, on one thread.
	runtime.LockOSThread()

	c, err := parseFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	// The first signal ends the run in order, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	err = run(ctx, c)
	if cleanup := pgtest.Cleanup(); cleanup != nil {
		err = errors.Join(err, cleanup)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c *config) error {
	started := time.Now()
	r, err := newReport(ctx, c)
	if err != nil {
		return err
	}
	r.printHead(os.Stdout)
	if c.only != "catchup" {
		if r.Capture, err = measureCapture(ctx, c); err != nil {
			return err
		}
		r.printCapture(os.Stdout)
	}
	if c.only != "capture" {
		if r.CatchUp, err = measureCatchUp(ctx, c); err != nil {
			return err
		}
		r.printCatchUp(os.Stdout)
	}
	r.Seconds = time.Since(started).Seconds()
	fmt.Printf("\nbench: done in %.0f s\n", r.Seconds)
	if c.json != "" {
		return r.writeJSON(c.json)
	}
	return nil
}

// progress is a line on standard error, so that standard output is the report.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
