package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/config"
)

// nowhere is one database that cannot be reached, in two places, with a password
// to look for.
const nowhere = "host=/nonexistent,/nowhere dbname=x user=y password=topsecret"

// TestFirstSignalEndsInOrder: the end is logged and the exit code is 0.
func TestFirstSignalEndsInOrder(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			c := command(t, []string{"COURIER_DATABASE=" + nowhere}, "run", "--listen", "none").start()
			c.logs("courier started")
			c.signal(s)
			require.Equal(t, 0, c.exitCode(), "%s", c.log.String())
			require.Contains(t, c.log.String(), "courier is stopping")
			require.Contains(t, c.log.String(), "courier stopped")
			require.NotContains(t, c.log.String(), "topsecret")
		})
	}
}

// TestLogIsJSON: every line is an object, and none has the password.
func TestLogIsJSON(t *testing.T) {
	t.Parallel()
	c := command(t, nil, "run", "--database", nowhere, "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug").start()
	c.logs("courier started")
	c.signal(syscall.SIGTERM)
	require.Equal(t, 0, c.exitCode())
	lines := strings.Split(strings.TrimSpace(c.log.String()), "\n")
	require.GreaterOrEqual(t, len(lines), 3)
	for _, line := range lines {
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		require.NotEmpty(t, entry["msg"])
		require.NotEmpty(t, entry["level"])
	}
	require.NotContains(t, c.log.String(), "topsecret")
	require.Contains(t, c.log.String(), "the command line, and so this password, is shown")
}

// TestReload: SIGHUP changes the log's level and tells what takes a restart; a
// file with a mistake changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "courier.toml")
	write := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...) + "\n[[database]]\ndsn = '" + nowhere + "'\n"
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("listen = 'none'")
	c := command(t, nil, "run", "--config", path).start()
	c.logs("courier started")

	write("listen = 'none'\nlog_level = 'loud'")
	c.signal(syscall.SIGHUP)
	c.logs(path + `:2: log_level: \"loud\" is none of`)

	write("listen = 'none'\nprobe_interval = '1m'\nlog_level = 'debug'")
	c.signal(syscall.SIGHUP)
	c.logs("log_level=DEBUG")
	c.logs("takes effect when courier is restarted\" setting=probe_interval where=\"" + path + ":2: probe_interval\"")
	require.NotContains(t, c.log.String(), "setting=log_level")
	require.NotContains(t, c.log.String(), "setting=database")

	c.signal(syscall.SIGTERM)
	require.Equal(t, 0, c.exitCode())
	require.NotContains(t, c.log.String(), "topsecret")
}

// TestListens: the address is in the log, and something answers there.
func TestListens(t *testing.T) {
	t.Parallel()
	c := command(t, []string{"COURIER_DATABASE=" + nowhere, "COURIER_LISTEN=127.0.0.1:0"}, "run").start()
	c.logs("listen=127.0.0.1:")
	_, rest, _ := strings.Cut(c.log.String(), "listen=")
	address, _, _ := strings.Cut(rest, "\n")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: deadline}
	response, err := client.Get("http://" + address + "/healthz")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	_, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	c.signal(syscall.SIGTERM)
	require.Equal(t, 0, c.exitCode(), "%s", c.log.String())
}

// TestDefaultAddressIsTaken: the address that nobody asked for is done without.
func TestDefaultAddressIsTaken(t *testing.T) {
	t.Parallel()
	// If it cannot be taken here, then somebody else has it, which does as well.
	if taken, err := net.Listen("tcp", config.DefaultListen); err == nil {
		defer func() { _ = taken.Close() }()
	}
	settings, err := config.Read(config.Sources{})
	require.NoError(t, err)
	var log lockedBuffer
	listener, err := openListener(settings, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Nil(t, listener)
	require.Contains(t, log.String(), "address already in use")

	settings, err = config.Read(config.Sources{Flags: map[string][]string{"listen": {config.DefaultListen}}})
	require.NoError(t, err)
	_, err = openListener(settings, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "--listen: listen on "+config.DefaultListen+": address already in use")
	require.Equal(t, exitUsage, exitCode(err))
}

// TestPanicIsNoUsageError: a process that panics ends by SIGABRT, so that the
// service manager, which leaves one with exit code 2 alone, starts it again.
func TestPanicIsNoUsageError(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", `ulimit -c 0; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), panicVariable+"=1")
	output, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "panic: planted")
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled(), "it ended with code %d", status.ExitStatus())
	require.Equal(t, syscall.SIGABRT, status.Signal())
}
