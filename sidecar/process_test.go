package main

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// fakeSupervisor runs until its context is over and then, if draining is set,
// until that is closed.
type fakeSupervisor struct {
	draining chan struct{}
	states   func() []supervise.DatabaseState
}

func (f *fakeSupervisor) Run(ctx context.Context) {
	<-ctx.Done()
	if f.draining != nil {
		<-f.draining
	}
}

func (f *fakeSupervisor) States() []supervise.DatabaseState {
	if f.states == nil {
		return nil
	}
	return f.states()
}

// TestProcessDrains: it ends when the supervisor has, not before.
func TestProcessDrains(t *testing.T) {
	t.Parallel()
	draining := make(chan struct{})
	p := &process{supervisor: &fakeSupervisor{draining: draining}, drain: deadline, log: slog.New(slog.DiscardHandler)}
	signals := make(chan os.Signal, 1)
	ended := make(chan error)
	go func() { ended <- p.run(signals, time.Second) }()
	signals <- syscall.SIGTERM
	select {
	case err := <-ended:
		t.Fatalf("it did not wait for work in flight: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(draining)
	require.NoError(t, <-ended)
}

// TestProcessIsBounded: work that does not end is left behind, which is said, and
// is an orderly end all the same.
func TestProcessIsBounded(t *testing.T) {
	t.Parallel()
	draining := make(chan struct{})
	defer close(draining)
	var log lockedBuffer
	p := &process{supervisor: &fakeSupervisor{draining: draining}, drain: 20 * time.Millisecond,
		log: slog.New(slog.NewTextHandler(&log, nil))}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	require.NoError(t, p.run(signals, time.Second))
	require.Contains(t, log.String(), "left behind\" within=20ms")
}

// TestSupervisorMayNotEndByItself: nothing would be shipped any more, so a
// service manager has to start the process again.
func TestSupervisorMayNotEndByItself(t *testing.T) {
	t.Parallel()
	worked := make(chan struct{})
	close(worked)
	_, err := (&process{drain: time.Second}).wait(context.Background(), worked)
	require.ErrorContains(t, err, "without being told")
	require.Equal(t, 1, exitCode(err))
}

// TestSecondSignalExitsAtOnce, also one of the other kind; SIGHUP does not count.
func TestSecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	stops, reloads := 0, 0
	codes := make(chan int, 1)
	h := &signalHandler{
		stop: func() { stops++ }, reload: func() { reloads++ },
		exit: func(code int) { codes <- code }, log: slog.New(slog.DiscardHandler),
	}
	signals := make(chan os.Signal)
	done := make(chan struct{})
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		h.run(signals, done)
	}()
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	signals <- syscall.SIGHUP
	require.Empty(t, codes)
	signals <- syscall.SIGINT
	require.Equal(t, 130, <-codes)
	signals <- syscall.SIGTERM
	require.Equal(t, 143, <-codes)
	close(done)
	<-returned
	require.Equal(t, 1, stops)
	require.Equal(t, 1, reloads)
}

func TestSummary(t *testing.T) {
	t.Parallel()
	require.Equal(t, "databases: 1 down, 2 ready; subscriptions: 1 retrying, 2 streaming", summary([]supervise.DatabaseState{
		{State: "ready", Subscriptions: []supervise.SubscriptionState{{State: "streaming"}, {State: "retrying"}}},
		{State: "down"},
		{State: "ready", Subscriptions: []supervise.SubscriptionState{{State: "streaming"}}},
	}))
	require.Equal(t, "databases: 1 missing; subscriptions: none", summary([]supervise.DatabaseState{{State: "missing"}}))
}
