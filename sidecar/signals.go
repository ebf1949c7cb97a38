package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pg-courier/pg_courier/pkg/logkey"
)

// signalHandler decides what a signal does. The first SIGTERM or SIGINT asks for
// an orderly end, the second ends the process where it stands; what was in
// flight then is found applied or not by the next one (pkg/ship). SIGHUP reads
// the settings again.
type signalHandler struct {
	stop   func()
	reload func()
	exit   func(code int)
	within time.Duration // for an orderly end
	log    *slog.Logger
}

// catchSignals begins to catch what a signalHandler decides on. A log whose
// reader is gone is no reason to die.
func catchSignals() (signals chan os.Signal, release func()) {
	signal.Ignore(syscall.SIGPIPE)
	signals = make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

// run handles signals until done is closed.
func (h *signalHandler) run(signals <-chan os.Signal, done <-chan struct{}) {
	stopping := false
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP && !stopping:
				h.reload()
			case s == syscall.SIGHUP:
			case !stopping:
				stopping = true
				h.log.Info("courier is stopping, a second signal ends it at once",
					logkey.Signal, s.String(), logkey.Within, h.within.String())
				h.stop()
			default:
				h.log.Warn("courier ends at once", logkey.Signal, s.String())
				h.exit(exitBySignal(s))
			}
		}
	}
}

// exitBySignal is what a shell reports of a process that a signal has ended.
func exitBySignal(s os.Signal) int {
	number, _ := s.(syscall.Signal)
	return 128 + int(number)
}
