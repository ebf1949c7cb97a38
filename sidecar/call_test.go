package main

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// builtFor is the program.
func builtFor(t *testing.T) string {
	t.Helper()
	path, err := buildProgram()
	require.NoError(t, err)
	return path
}

// call runs the program to its end and gives its exit code and all it printed.
func call(t *testing.T, path string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(output)
	}
	require.NoError(t, err)
	return 0, string(output)
}

// TestUsageOfReports: calls of status and doctor that cannot work give one clear
// line, exit code 2 and no password.
func TestUsageOfReports(t *testing.T) {
	t.Parallel()
	path := builtFor(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no database":      {[]string{}, "name at least one database"},
		"bad DSN":          {[]string{"--database", "password=topsecret nonsense"}, "not of the form"},
		"unknown flag":     {[]string{"--nonsense"}, "nonsense"},
		"stray arguments":  {[]string{"--database", "dbname=x password=topsecret", "y"}, `takes no argument "y"`},
		"interval of 1 µs": {[]string{"--database", "dbname=x password=topsecret", "--watch", "--interval", "1us"}, ""},
	} {
		for _, command := range []string{"status", "doctor"} {
			t.Run(command+" "+name, func(t *testing.T) {
				t.Parallel()
				code, output := call(t, path, append([]string{command}, c.args...)...)
				require.Equal(t, exitUsage, code, output)
				require.Regexp(t, `\Acourier: [^\n]+\n\z`, output)
				require.Contains(t, output, c.says)
				require.NotContains(t, output, "topsecret")
			})
		}
	}
}
