package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// panicVariable makes the test binary a process that panics as courier would.
const panicVariable = "COURIER_TEST_PANIC"

// deadline is generous: the machine may be busy.
const deadline = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(panicVariable) != "" {
		abortOnPanic()
		panic("planted")
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programFolder != "" {
			_ = os.RemoveAll(programFolder)
		}
		os.Exit(code)
	}))
}

var programFolder string

// buildProgram builds courier, once.
var buildProgram = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "courier-")
	if err != nil {
		return "", err
	}
	programFolder = folder
	if err := os.Chmod(folder, 0o755); err != nil { // for the test of another user
		return "", err
	}
	program := filepath.Join(folder, "courier")
	output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		return "", errors.New(string(output))
	}
	return program, nil
})

// courier is a call of the program. It is killed at the end of the test.
type courier struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{} // closed when it has ended
}

// command prepares a call; its environment has only what is given.
func command(t *testing.T, env []string, args ...string) *courier {
	t.Helper()
	program, err := buildProgram()
	require.NoError(t, err)
	c := &courier{t: t, cmd: exec.Command(program, args...), done: make(chan struct{})}
	c.cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	return c
}

func (c *courier) start() *courier {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait() // ended looks at how
		close(c.done)
	}()
	c.t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // an error says that it has ended
		<-c.done
	})
	return c
}

// exitCode waits for the end.
func (c *courier) exitCode() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(deadline):
		c.t.Fatalf("courier still runs; its log:\n%s", c.log.String())
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *courier) signal(s os.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(s))
}

// logs waits for a text in the log.
func (c *courier) logs(text string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return strings.Contains(c.log.String(), text) },
		deadline, 10*time.Millisecond, "%s is not in the log:\n%s", text, c.log.String())
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

// TestUsage runs the program with calls that cannot work: one clear line, exit
// code 2, no password.
func TestUsage(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	const database = "dbname=x password=topsecret"

	for name, c := range map[string]struct {
		args []string
		env  []string
		code int
		says string
	}{
		"version":           {args: []string{"version"}, says: "courier "},
		"no command":        {args: []string{"jump"}, code: 2, says: `there is no command "jump"`},
		"unknown flag":      {args: []string{"run", "--nonsense"}, code: 2, says: "nonsense"},
		"no database":       {args: []string{"run"}, code: 2, says: "name at least one database"},
		"bad DSN":           {args: []string{"run", "--database", "password=topsecret nonsense"}, code: 2, says: "--database: the connection string is not of the form"},
		"bad URI":           {args: []string{"run", "--database", "postgresql://me:topsecret@h:x/y"}, code: 2, says: "not of the form"},
		"comma in DSN":      {args: []string{"run", "--database", "host=a,b dbname=x topsecret"}, code: 2, says: "not of the form"},
		"second DSN is bad": {args: []string{"run", "--database", database, "--database", "topsecret"}, code: 2, says: "not of the form"},
		"bad level":         {args: []string{"run", "--database", database, "--log-level", "loud"}, code: 2, says: "--log-level: \"loud\" is none of debug, info, warn, error"},
		"bad duration":      {args: []string{"run", "--database", database, "--drain-timeout", "4"}, code: 2, says: "--drain-timeout: \"4\" is not a duration"},
		"bad number":        {args: []string{"run", "--database", database, "--max-connections", "x"}, code: 2, says: "--max-connections: "},
		"bad variable":      {args: []string{"run"}, env: []string{"COURIER_DATABASE=" + database, "COURIER_LOG_FORMAT=xml"}, code: 2, says: "COURIER_LOG_FORMAT: \"xml\""},
		"stray arguments":   {args: []string{"run", "--database", database, "y"}, code: 2, says: `takes no argument "y"`},
		"no such file":      {args: []string{"run", "--config", folder + "/none.toml"}, code: 2, says: "--config: read " + folder + "/none.toml: no such file or directory"},
		"file is a folder":  {args: []string{"run", "--config", folder}, code: 2, says: "is a directory"},
		"unknown key":       {args: []string{"run", "--config", file("key.toml", "\nlisten_on = 'x'", 0o600)}, code: 2, says: "key.toml:2: listen_on: there is no such setting"},
		"no database in it": {args: []string{"run", "--config", file("empty.toml", "", 0o600)}, code: 2, says: "name at least one database"},
		"bad DSN in a file": {args: []string{"run", "--config", file("dsn.toml", "[[database]]\ndsn = 'topsecret'", 0o600)}, code: 2, says: "dsn.toml:2: dsn: the connection string is not"},
		"bad address":       {args: []string{"run", "--database", database, "--listen", "here"}, code: 2, says: "--listen: \"here\" is not of the form host:port"},
		"port in use":       {args: []string{"run", "--database", database, "--listen", taken.Addr().String()}, code: 2, says: "--listen: listen on " + taken.Addr().String() + ": address already in use"},
		"port in use, env":  {args: []string{"run", "--database", database}, env: []string{"COURIER_LISTEN=" + taken.Addr().String()}, code: 2, says: "COURIER_LISTEN: listen on "},
		"another's address": {args: []string{"run", "--database", database, "--listen", "192.0.2.1:9632"}, code: 2, says: "cannot assign requested address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := command(t, c.env, c.args...).start()
			require.Equal(t, c.code, call.exitCode(), "%s", call.log.String())
			requireUsage(t, call, c.says)
		})
	}
}

// requireUsage wants one clear line.
func requireUsage(t *testing.T, call *courier, says string) {
	t.Helper()
	said := call.log.String()
	require.Contains(t, said, says)
	require.Equal(t, 1, strings.Count(said, "\n"), "%s", said)
	require.NotContains(t, said, "topsecret")
	require.NotContains(t, said, "goroutine")
}

// TestNoPermission runs the program as somebody who may neither read the file
// nor take a low port. Root may do everything, so then it is run as nobody.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "courier.toml")
	require.NoError(t, os.WriteFile(path, []byte("[[database]]\ndsn = 'topsecret'"), 0o000))
	call := command(t, nil, "run", "--config", path).asNobody().start()
	require.Equal(t, exitUsage, call.exitCode(), "%s", call.log.String())
	requireUsage(t, call, "permission denied")

	require.Equal(t, "permission denied", systemReason(
		&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}))
}

func (c *courier) asNobody() *courier {
	if os.Geteuid() == 0 {
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return c
}
