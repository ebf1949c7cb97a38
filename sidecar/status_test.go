package main

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/status"
)

// TestStatus runs `courier status` as a script does, without a terminal.
func TestStatus(t *testing.T) {
	t.Parallel()
	path := builtFor(t)
	cluster := pgtest.Start(t, pgtest.Name("status"))
	dsn := cluster.Database(t, "app")
	cluster.Exec(t, "app", `CREATE EXTENSION pg_courier CASCADE;
		SELECT courier.create_node('eu', 'host=127.0.0.1 port=1 dbname=x password=topsecret');
		SELECT courier.create_subscription('to_eu', 'eu', copy_data => false)`)

	code, output := call(t, path, "status", "--database", dsn)
	require.Equal(t, 0, code, output)
	require.Contains(t, output, "streaming")
	require.NotContains(t, output, "topsecret")
	require.NotContains(t, output, "\x1b", "there is no terminal")

	cluster.Exec(t, "app", "UPDATE courier.subscription_state SET state = 'stopped', last_error = 'no'")
	code, output = call(t, path, "status", "--json", "--database", dsn)
	require.Equal(t, 1, code, output)
	var report status.Report
	require.NoError(t, json.Unmarshal([]byte(output), &report))
	require.Equal(t, "no", report.Databases[0].Subscriptions[0].LastError.Message)

	code, output = call(t, path, "status", "--database", dsn, "--database", "host=127.0.0.1,127.0.0.1 port=1 dbname=x password=topsecret")
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "unreachable")
	require.NotContains(t, output, "topsecret")
	require.NotContains(t, output, "goroutine")

	// --watch goes on until it is interrupted, which is no error
	watch := exec.Command(path, "status", "--watch", "--json", "--interval", "100ms", "--database", dsn)
	watch.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	lines := bufio.NewScanner(pipe)
	states := func() string {
		require.True(t, lines.Scan())
		report := status.Report{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &report), "each line is an object")
		return report.Databases[0].Subscriptions[0].State
	}
	require.Equal(t, "stopped", states())
	cluster.Exec(t, "app", "UPDATE courier.subscription_state SET state = 'copying'")
	deadline := time.Now().Add(time.Minute)
	for states() != "copying" {
		require.Less(t, time.Now(), deadline)
	}
	require.NoError(t, watch.Process.Signal(syscall.SIGINT))
	for lines.Scan() {
	}
	require.NoError(t, watch.Wait(), "exit code 0")
}

func TestRedraw(t *testing.T) {
	t.Parallel()
	frame := redraw("one line\ntwo\nthree\nfour\n", 5, 4)
	require.Equal(t, "\x1b[Hone l\x1b[0m\x1b[K\ntwo\x1b[0m\x1b[K\n(2 li\x1b[0m\x1b[K\n\x1b[J", frame)
	require.Equal(t, "\x1b[Hone line\x1b[0m\x1b[K\n\x1b[J", redraw("one line\n", 0, 0), "its size is not known")
	require.Equal(t, 4, strings.Count(redraw("1\n2\n3\n4\n", 80, 24), "\n"))
}
