package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// themesRun says which themes make would have pg_regress run, in that order.
func themesRun(t *testing.T, preload bool, themes ...string) string {
	t.Helper()
	cmd := exec.Command("make", append([]string{"--dry-run"}, installcheck(preload, themes)...)...)
	cmd.Dir = "../.."
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
	_, after, found := strings.Cut(string(output), "--dbname=")
	require.True(t, found, string(output))
	_, after, _ = strings.Cut(after, " ")
	return strings.TrimSpace(after)
}

func TestThemes(t *testing.T) {
	require.Equal(t, "ddl keys", themesRun(t, false, "keys", "ddl"))
	require.Equal(t, "alone ddl", themesRun(t, false, "ddl", "alone"))
	require.Equal(t, "alone keys", themesRun(t, true, "keys"))
	all := themesRun(t, false)
	require.True(t, strings.HasPrefix(all, "alone capture "), all)
	require.Contains(t, all, "worker")

	t.Chdir("../..")
	require.NoError(t, known([]string{"keys", "alone"}))
	require.ErrorContains(t, known([]string{"keys", "lamp"}), `there is no theme "lamp"`)
}
