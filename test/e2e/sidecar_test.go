package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drainTimeout is how long a sidecar has to end after SIGTERM.
const drainTimeout = 20 * time.Second

// sidecar is a running `courier run`.
type sidecar struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{} // closed when the process has ended
}

// courierProgram is the binary named by COURIER_BIN, or what make built.
func courierProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv("COURIER_BIN")
	if program == "" {
		program = filepath.Join("..", "..", "bin", "courier")
	}
	program, err := filepath.Abs(program)
	require.NoError(t, err)
	_, err = os.Stat(program)
	require.NoError(t, err, "build it with make, or set COURIER_BIN")
	return program
}

// startSidecar starts a sidecar for the source's database. It is killed at the
// end of the test, unless it was stopped before; its log is shown if the test
// has failed.
func (r *replica) startSidecar(args ...string) *sidecar {
	r.t.Helper()
	return r.startSidecarFor([]string{r.source.DSN(appDatabase)}, args...)
}

// startSidecarFor is startSidecar for databases given by their DSNs.
func (r *replica) startSidecarFor(databases []string, args ...string) *sidecar {
	r.t.Helper()
	s := &sidecar{t: r.t, done: make(chan struct{})}
	command := []string{"run"}
	for _, dsn := range databases {
		command = append(command, "--database", dsn)
	}
	s.cmd = exec.Command(courierProgram(r.t), append(command, args...)...)
	s.cmd.Env = append(withoutPG(), "COURIER_LISTEN=none") // the default port has one owner a machine
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	// PR_SET_PDEATHSIG is bound to the thread that forks: it has to stay.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // stop looks at how it ended
			close(s.done)
		}
	}()
	require.NoError(r.t, <-started)
	r.t.Cleanup(func() {
		s.kill9()
		if r.t.Failed() {
			r.t.Logf("end of the log of sidecar %d:\n%s", s.cmd.Process.Pid, s.log.tail(4000))
		}
	})
	return s
}

// kill9 kills the sidecar and waits for its end.
func (s *sidecar) kill9() {
	if !s.ended() {
		_ = s.cmd.Process.Kill() // an error says that it has just ended
	}
	<-s.done
}

// stop ends the sidecar in order, which must succeed.
func (s *sidecar) stop() {
	s.t.Helper()
	require.False(s.t, s.ended(), "the sidecar had ended before:\n%s", s.log.tail(4000))
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
	case <-time.After(drainTimeout):
		s.t.Fatalf("the sidecar still runs %s after SIGTERM", drainTimeout)
	}
	require.True(s.t, s.cmd.ProcessState.Success(), "the sidecar ended with %s", s.cmd.ProcessState)
}

func (s *sidecar) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// withoutPG is the environment without the caller's PG* variables.
func withoutPG() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	return env
}

// lockedBuffer may be read while a process writes to it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// tail is its end, at most n bytes.
func (b *lockedBuffer) tail(n int) string {
	text := b.String()
	return text[max(0, len(text)-n):]
}
