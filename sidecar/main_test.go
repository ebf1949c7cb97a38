package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(building{m})) }

// building builds the program before the tests and removes it after them.
type building struct{ m *testing.M }

func (b building) Run() int {
	dir, err := os.MkdirTemp("", "courier")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "courier")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build courier: %v\n%s", err, output)
		return 1
	}
	return b.m.Run()
}

// call runs the program to its end and gives its exit code and all it printed.
func call(t *testing.T, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(output)
	}
	require.NoError(t, err)
	return 0, string(output)
}

// TestUsage runs the program with calls that cannot work: one clear line, exit
// code 2, no password.
func TestUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"version":           {[]string{"version"}, 0, "courier "},
		"no command":        {[]string{"jump"}, 2, `there is no command "jump"`},
		"unknown flag":      {[]string{"run", "--nonsense"}, 2, "nonsense"},
		"no database":       {[]string{"run"}, 2, "name at least one database"},
		"bad DSN":           {[]string{"run", "--database", "password=topsecret nonsense"}, 2, "not of the form"},
		"bad level":         {[]string{"run", "--database", "dbname=x", "--log-level", "loud"}, 2, "none of debug, info, warn, error"},
		"status of nothing": {[]string{"status"}, 2, "name at least one database: courier status"},
		"status bad DSN":    {[]string{"status", "--database", "password=topsecret nonsense"}, 2, "not of the form"},
		"status interval":   {[]string{"status", "--database", "dbname=x", "--watch", "--interval", "1us"}, 2, "too short"},
		"status flag":       {[]string{"status", "--nonsense"}, 2, "nonsense"},
		"status arguments":  {[]string{"status", "--database", "dbname=x", "y"}, 2, `status takes no argument "y"`},
		"doctor of nothing": {[]string{"doctor"}, 2, "name at least one database: courier doctor"},
		"doctor bad DSN":    {[]string{"doctor", "--database", "password=topsecret nonsense"}, 2, "not of the form"},
		"doctor flag":       {[]string{"doctor", "--nonsense"}, 2, "nonsense"},
		"stray arguments":   {[]string{"run", "--database", "dbname=x", "y"}, 2, `takes no argument "y"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, output := call(t, c.args...)
			require.Equal(t, c.code, code, "%s", output)
			require.Contains(t, output, c.says)
			require.NotContains(t, output, "topsecret")
			require.NotContains(t, output, "goroutine")
		})
	}
}
