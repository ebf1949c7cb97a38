package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/config"
	"github.com/pg-courier/pg_courier/pkg/logkey"
	"github.com/pg-courier/pg_courier/pkg/metrics"
)

// drainGrace is what the supervisor has beyond the drain timeout to come back.
const drainGrace = 500 * time.Millisecond

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "ship every enabled subscription of the databases, until stopped",
		ArgsUsage: " ",
		Flags:     append(databaseFlags(), settingFlags()...),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: run,
	}
}

// run checks everything that a person could have got wrong, then works.
func run(c *cli.Context) error {
	if c.Args().Present() {
		return cli.Exit(fmt.Sprintf("run takes no argument %q; databases are given with --database", c.Args().First()), exitUsage)
	}
	settings, err := readConfig(c)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(settings.LogLevel)
	log := newLogger(c.App.ErrWriter, settings.LogFormat, level)
	listener, err := openListener(settings, log)
	if err != nil {
		return err
	}
	for _, line := range settings.Warnings {
		log.Warn(line)
	}
	if settings.MemoryLimit > 0 {
		debug.SetMemoryLimit(settings.MemoryLimit)
	}
	abortOnPanic()

	signals, release := catchSignals()
	defer release()
	observer := metrics.NewObserver()
	databases := sources(settings)
	work := newSupervisor(settings, databases, observer, log)
	p := &process{
		supervisor: work,
		listener:   listener,
		metrics: metrics.Config{Version: version, Databases: databases, States: work.States,
			Observer: observer, Live: work.Live, Log: log},
		drain: settings.DrainTimeout + drainGrace,
		log:   log,
	}
	p.reload = func() { reload(settings, func() (*config.Config, error) { return readConfig(c) }, level, log) }
	log.Info("courier started", logkey.Version, version, logkey.Databases, len(settings.Databases), logkey.Listen, p.address())
	if err := p.run(signals, settings.DrainTimeout); err != nil {
		return err
	}
	log.Info("courier stopped")
	return nil
}

// abortOnPanic ends a process that panics by SIGABRT. Go's own exit code for it
// is 2, exitUsage, after which a service manager would not start it again.
func abortOnPanic() { debug.SetTraceback("crash") }

// process is the running sidecar: the supervisor, and around it what listens to
// signals, to HTTP and to the service manager.
type process struct {
	supervisor supervisor
	listener   net.Listener // nil for none
	metrics    metrics.Config
	drain      time.Duration // after which a supervisor that was told to stop is left behind
	reload     func()
	log        *slog.Logger
}

func (p *process) address() string {
	if p.listener == nil {
		return "none"
	}
	return p.listener.Addr().String()
}

// run works until a signal says stop. Everything it starts has ended when it
// returns, unless the supervisor had to be left behind.
func (p *process) run(signals <-chan os.Signal, within time.Duration) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	worked := make(chan struct{}) // closed when the supervisor is back
	ended := make(chan struct{})  // closed when nothing is left to watch
	var group sync.WaitGroup

	notify := newNotifier(p.supervisor, p.log)
	handler := &signalHandler{
		stop:   func() { notify.stopping(); stop() },
		reload: p.reload, exit: os.Exit, within: within, log: p.log,
	}
	serving, stopServing := context.WithCancel(context.Background())
	defer stopServing()

	go func() {
		defer close(worked)
		p.supervisor.Run(ctx)
	}()
	notify.ready()
	group.Go(func() { handler.run(signals, ended) })
	group.Go(func() { notify.run(ended) })
	if p.listener != nil {
		group.Go(func() { p.serve(serving) })
	}

	orderly, err := p.wait(ctx, worked)
	close(ended)
	stopServing()
	if orderly {
		group.Wait()
	}
	return err
}

// wait returns when the supervisor is back, or when it should be. It is not
// orderly if something hangs, so that nothing may be waited for.
func (p *process) wait(ctx context.Context, worked <-chan struct{}) (orderly bool, err error) {
	select {
	case <-worked:
		if ctx.Err() == nil {
			return true, errors.New("the supervisor has ended without being told to")
		}
		return true, nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(p.drain)
	defer timer.Stop()
	select {
	case <-worked:
		return true, nil
	case <-timer.C:
		// A connection whose other end is gone, say. What was asked for is done:
		// no work begins, and the target knows what was applied.
		p.log.Warn("work in flight or its connections did not end in time and are left behind", logkey.Within, p.drain.String())
		return false, nil
	}
}

// serve is where HTTP begins. It answers while the supervisor drains, too.
func (p *process) serve(ctx context.Context) {
	if err := metrics.Serve(ctx, p.listener, p.metrics); err != nil {
		p.log.Error("metrics and health are no longer served", logkey.Listen, p.address(), logkey.Error, err.Error())
	}
}

// reload reads the settings again and takes over what can change in a running
// process: the level of the log. Of what else differs it says that it takes a
// restart; databases are not added halfway.
func reload(running *config.Config, read func() (*config.Config, error), level *slog.LevelVar, log *slog.Logger) {
	fresh, err := read()
	if err != nil {
		log.Error("settings are not read again, those in use stay", logkey.Error, err.Error())
		return
	}
	level.Set(fresh.LogLevel)
	log.Info("settings are read again", logkey.Level, fresh.LogLevel.String())
	for _, line := range fresh.Warnings {
		log.Warn(line)
	}
	for _, name := range slices.DeleteFunc(running.Differences(fresh), func(name string) bool { return name == "log_level" }) {
		where, _ := fresh.Given(name)
		log.Warn("a changed setting takes effect when courier is restarted", logkey.Setting, name, logkey.Where, where)
	}
}
