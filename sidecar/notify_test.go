package main

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// serviceManager listens as systemd does.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	folder, err := os.MkdirTemp("", "notify-") // the name of a socket is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	m := &serviceManager{t: t, path: filepath.Join(folder, "s")}
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

// next is the next message.
func (m *serviceManager) next() string {
	m.t.Helper()
	require.NoError(m.t, m.conn.SetReadDeadline(time.Now().Add(deadline)))
	buffer := make([]byte, 4096)
	n, err := m.conn.Read(buffer)
	require.NoError(m.t, err)
	return string(buffer[:n])
}

// until reads messages up to one.
func (m *serviceManager) until(message string) {
	m.t.Helper()
	for m.next() != message {
	}
}

// TestNotify runs the program under a service manager.
func TestNotify(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	env := []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=300000", "COURIER_DATABASE=" + nowhere}
	c := command(t, env, "run", "--listen", "none").start()
	require.Equal(t, "READY=1", m.next())
	status := m.next()
	require.True(t, strings.HasPrefix(status, "STATUS=databases: 1 "), status)
	require.NotContains(t, status, "topsecret")
	for range 3 {
		m.until("WATCHDOG=1")
	}
	c.signal(syscall.SIGTERM)
	m.until("STOPPING=1")
	require.Equal(t, 0, c.exitCode())
}

// TestUsageErrorIsNotReady: a call that cannot work tells nothing.
func TestUsageErrorIsNotReady(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	c := command(t, []string{"NOTIFY_SOCKET=" + m.path}, "run").start()
	require.Equal(t, exitUsage, c.exitCode())
	require.NoError(t, m.conn.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, err := m.conn.Read(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestWatchdogStarvesWithTheSupervisor: there is no sign of life while the
// supervisor does not answer, and one again when it does.
func TestWatchdogStarvesWithTheSupervisor(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	answer := make(chan struct{})
	sent := make(chan string, 100)
	n := &notifier{
		send: func(message string) error { sent <- message; return nil },
		states: func() []supervise.DatabaseState {
			asked <- struct{}{}
			<-answer
			return nil
		},
		watchdog: true, every: time.Millisecond, log: slog.New(slog.DiscardHandler),
	}
	done := make(chan struct{})
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		n.run(done)
	}()
	<-asked // and not answered
	select {
	case message := <-sent:
		t.Fatalf("told while the supervisor hangs: %s", message)
	case <-time.After(50 * time.Millisecond):
	}
	answer <- struct{}{}
	require.Equal(t, "STATUS=databases: none; subscriptions: none", <-sent)
	require.Equal(t, "WATCHDOG=1", <-sent)
	<-asked
	close(answer)
	require.Equal(t, "WATCHDOG=1", <-sent, "a status is told once")
	close(done)
	for {
		select {
		case <-asked:
		case <-returned:
			return
		}
	}
}
