package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUsage runs the program with calls that cannot work: one clear line, exit
// code 2, no password.
func TestUsage(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "courier")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"version":         {[]string{"version"}, 0, "courier "},
		"no command":      {[]string{"jump"}, 2, `there is no command "jump"`},
		"unknown flag":    {[]string{"run", "--nonsense"}, 2, "nonsense"},
		"no database":     {[]string{"run"}, 2, "name at least one database"},
		"bad DSN":         {[]string{"run", "--database", "password=topsecret nonsense"}, 2, "not of the form"},
		"bad level":       {[]string{"run", "--database", "dbname=x", "--log-level", "loud"}, 2, "none of debug, info, warn, error"},
		"stray arguments": {[]string{"run", "--database", "dbname=x", "y"}, 2, `takes no argument "y"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all bytes.Buffer
			command := exec.CommandContext(context.Background(), program, c.args...)
			command.Stdout, command.Stderr = &all, &all
			err := command.Run()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.code, code, "%s", all.String())
			require.Contains(t, all.String(), c.says)
			require.NotContains(t, all.String(), "topsecret")
			require.NotContains(t, all.String(), "goroutine")
		})
	}
}
