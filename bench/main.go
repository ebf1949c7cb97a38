// Command bench measures pg_courier beside its peers, in one run on the same
// machine, data and settings. `make bench` builds, installs and runs it from
// the repository's root; -help lists its flags.
//
// Scenarios:
//
//	capture   what a row costs its own transaction: one INSERT and one UPDATE
//	          of 200,000 rows, with each way to capture of the table
//	          capturePeers. The statement is timed with its commit.
//	catchup   how fast a backlog is shipped: each workload of the table
//	          workloads is committed while shipping is stopped, then each
//	          system of the table systems is started and timed until the target
//	          has the last row.
//	latency   how long a row takes from its commit on the source until a client
//	          that polls the target sees it, at -latency-rates transactions of
//	          one row a second, with each system.
//	commit    how many transactions of one captured row sessions commit a
//	          second, with and without others that wait for changes.
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
	"strconv"
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

	latencyRounds  int
	latencySeconds int
	latencyRates   []int

	commitRounds   int
	commitSeconds  int
	commitSessions int
}

// scenarios in the order they run.
var scenarios = []string{"capture", "catchup", "latency", "commit"}

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
	flag.StringVar(&c.only, "only", "", "one `scenario` of "+strings.Join(scenarios, ", "))
	flag.IntVar(&c.latencyRounds, "latency-rounds", 1, "rounds of latency")
	flag.IntVar(&c.latencySeconds, "latency-seconds", 20, "length of a measurement of latency")
	rates := flag.String("latency-rates", "200", "transactions a second, comma-separated")
	flag.IntVar(&c.commitRounds, "commit-rounds", 15, "rounds of commit")
	flag.IntVar(&c.commitSeconds, "commit-seconds", 1, "length of a measurement of commit")
	flag.IntVar(&c.commitSessions, "commit-sessions", 64, "sessions that commit")
	flag.StringVar(&c.systems, "systems", "", "catchup and latency of these `systems` only, comma-separated: "+strings.Join(systemNames(), ", "))
	flag.StringVar(&c.json, "json", "", "write all measurements to `FILE` too")
	flag.StringVar(&c.courier, "courier", courier, "the sidecar's `program`")
	flag.Parse()

	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("there is no argument %q", flag.Arg(0))
	case c.only != "" && !slices.Contains(scenarios, c.only):
		return nil, fmt.Errorf("-only %s: it is one of %s", c.only, strings.Join(scenarios, ", "))
	case min(c.rounds, c.captureRounds, c.captureRows, c.latencyRounds, c.latencySeconds, c.commitRounds, c.commitSeconds,
		c.commitSessions) < 1:
		return nil, errors.New("rounds, rows, seconds and sessions start at 1")
	case c.rows < batchRows:
		return nil, fmt.Errorf("-rows: a backlog has at least %d rows", batchRows)
	}
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			return nil, fmt.Errorf("-latency-rates: %q is no number of transactions a second", text)
		}
		c.latencyRates = append(c.latencyRates, rate)
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

func (c *config) chosenSystems() []system {
	return slices.DeleteFunc(slices.Clone(systems), func(s system) bool {
		return !slices.Contains(c.chosen(), s.name)
	})
}

// wants says whether a scenario is to be run.
func (c *config) wants(scenario string) bool { return c.only == "" || c.only == scenario }

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
	if c.wants("capture") {
		if r.Capture, err = measureCapture(ctx, c); err != nil {
			return err
		}
		r.printCapture(os.Stdout)
	}
	if c.wants("catchup") {
		if r.CatchUp, err = measureCatchUp(ctx, c); err != nil {
			return err
		}
		r.printCatchUp(os.Stdout)
	}
	if c.wants("latency") {
		if r.Latency, err = measureLatency(ctx, c); err != nil {
			return err
		}
		r.printLatency(os.Stdout)
	}
	if c.wants("commit") {
		if r.Commit, err = measureCommit(ctx, c); err != nil {
			return err
		}
		r.printCommit(os.Stdout)
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
