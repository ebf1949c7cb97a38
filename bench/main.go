// Command bench measures pg_courier beside its peers, in one run on the same
// machine, data and settings. `make bench` builds, installs and runs it from
// the repository's root; -help lists its flags.
//
// What is measured is in the table scenarios; with what, in the tables systems
// (ways to ship) and captures (ways to capture). A peer that is not installed is
// left out, with the names of the packages to install; `make bench-peers` installs
// all of them.
//
// Systems alternate within a round and change their order from round to round,
// so that a noisy neighbour meets all of them. Ratios compare what ran in the
// same round. Every system gets a fresh pair of servers with the same settings
// (see settings), fsync on. Contents are compared at the end of every
// measurement; a difference is an error. A system that fails is left out of the
// rest of the scenario, and named at the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

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
	if c.packages {
		return printPackages()
	}
	if c.from != "" {
		r, err := readReports(c.from)
		if err != nil {
			return err
		}
		r.print(os.Stdout)
		return r.write(c)
	}
	r, err := newReport(ctx, c)
	if err != nil {
		return err
	}
	b := &bench{config: c, report: r}
	if err := b.leaveOut(); err != nil {
		return err
	}
	r.printHead(os.Stdout)
	started := time.Now()
	for i := range scenarios {
		if b.now = &scenarios[i]; !slices.Contains(c.only, b.now.name) {
			continue
		}
		err := b.now.run(b, ctx)
		r.printScenario(os.Stdout, b.now)
		r.Seconds = time.Since(started).Seconds()
		// What was measured before an error is not lost.
		if err := errors.Join(err, r.write(c)); err != nil {
			return err
		}
	}
	r.printEnd(os.Stdout)
	if len(r.Failures) > 0 {
		return fmt.Errorf("%d measurements failed", len(r.Failures))
	}
	return nil
}

// leaveOut drops the systems that are not installed, and says so. One that was
// asked for by name has to be there.
func (b *bench) leaveOut() error {
	var there []*system
	for _, s := range b.systems {
		absent, err := s.needs.missing()
		if err != nil {
			return err
		}
		if len(absent) == 0 {
			there = append(there, s)
			continue
		}
		packages, err := s.needs.packageNames()
		if err != nil {
			return err
		}
		if b.report.leaveOut(s.name, absent, packages); b.named {
			return errors.New(b.report.Absent[len(b.report.Absent)-1])
		}
	}
	b.systems = there
	return nil
}

// progress is a line on standard error, so that standard output is the report.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
