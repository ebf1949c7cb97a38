package main

import (
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/pg-courier/pg_courier/pkg/logkey"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// statusEvery is how often the line that systemctl status shows is looked at.
const statusEvery = 2 * time.Second

// notifier tells the service manager how the process is, by sd_notify. Without
// NOTIFY_SOCKET it tells nobody.
type notifier struct {
	send     func(message string) error
	states   func() []supervise.DatabaseState
	watchdog bool // somebody waits for signs of life
	every    time.Duration
	log      *slog.Logger

	status string // told last
}

func newNotifier(s supervisor, log *slog.Logger) *notifier {
	n := &notifier{send: sendNotification, states: s.States, every: statusEvery, log: log}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood, so it gets no sign of life", logkey.Error, err.Error())
	}
	if interval > 0 {
		n.watchdog = true
		// thrice in the interval: one may come late
		n.every = min(n.every, interval/3)
	}
	return n
}

func sendNotification(message string) error {
	_, err := daemon.SdNotify(false, message)
	return err
}

// ready tells that the process works.
func (n *notifier) ready() { n.tell(daemon.SdNotifyReady) }

// stopping tells that the end was asked for.
func (n *notifier) stopping() { n.tell(daemon.SdNotifyStopping) }

// run tells the status, and gives signs of life, until done is closed.
//
// A sign of life means that the supervisor answers: while States hangs there is
// none, and the service manager starts the process anew.
func (n *notifier) run(done <-chan struct{}) {
	ticker := time.NewTicker(n.every)
	defer ticker.Stop()
	for {
		n.look()
		select {
		case <-done:
			return
		case <-ticker.C:
		}
	}
}

func (n *notifier) look() {
	if status := summary(n.states()); status != n.status {
		n.status = status
		n.tell("STATUS=" + status)
	}
	if n.watchdog {
		n.tell(daemon.SdNotifyWatchdog)
	}
}

func (n *notifier) tell(message string) {
	if err := n.send(message); err != nil {
		n.log.Debug("the service manager is not told", logkey.Error, err.Error())
	}
}
