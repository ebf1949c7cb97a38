package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/config"
)

const (
	deployFolder = "../deploy"
	manualPage   = "../docs/sidecar.md"
)

// TestExampleFile uncomments everything in the example: it has every setting, at
// its default, and can be read.
func TestExampleFile(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join(deployFolder, "courier.toml"))
	require.NoError(t, err)
	folder := t.TempDir()
	path := filepath.Join(folder, "courier.toml")

	// as it is: nothing but comments
	require.NoError(t, os.WriteFile(path, example, 0o600))
	plain, err := config.Load(path)
	require.NoError(t, err)
	require.Empty(t, config.Default().Differences(plain))

	text := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(string(example), "$1")
	crm := filepath.Join(folder, "crm")
	text = strings.Replace(text, "/run/credentials/courier.service/crm", crm, 1)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(crm, []byte("dbname=crm user=courier"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "courier.pgpass"), nil, 0o600))
	full, err := config.Load(path)
	require.NoError(t, err)
	require.Len(t, full.Databases, 3)
	for _, s := range config.Settings() {
		_, given := full.Given(s.Name)
		require.True(t, given, "%s is not in the example", s.Name)
	}
	require.Equal(t, []string{"database"}, plain.Differences(full), "the example shows the defaults")
}

// TestManualHasEverySetting as key, flag and variable, with its default.
func TestManualHasEverySetting(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(manualPage)
	require.NoError(t, err)
	for _, s := range config.Settings() {
		row := "| `" + s.Name + "` | `--" + s.FlagName() + "` | `" + config.EnvName(s.Name) + "` | `" + s.Default + "` |"
		require.Contains(t, string(page), row)
	}
}

// unit is a systemd unit: the values of every key, by section.
type unit map[string]map[string][]string

func readUnit(t *testing.T) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployFolder, "courier.service"))
	require.NoError(t, err)
	u := unit{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			require.True(t, ok, line)
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	values := u["Service"][key]
	require.Len(t, values, 1, key)
	return values[0]
}

// TestUnit holds the unit to what the process does.
func TestUnit(t *testing.T) {
	t.Parallel()
	u := readUnit(t)
	require.Equal(t, []string{"Install", "Service", "Unit"}, sortedKeys(u))
	require.Equal(t, "notify", u.one(t, "Type"))
	require.Equal(t, "on-failure", u.one(t, "Restart"))
	require.Equal(t, strconv.Itoa(exitUsage), u.one(t, "RestartPreventExitStatus"))
	require.Equal(t, "courier", u.one(t, "User"))
	require.Equal(t, "yes", u.one(t, "NoNewPrivileges"))
	require.Equal(t, "strict", u.one(t, "ProtectSystem"))

	seconds, err := strconv.Atoi(u.one(t, "TimeoutStopSec"))
	require.NoError(t, err)
	require.Greater(t, time.Duration(seconds)*time.Second, config.Default().DrainTimeout+drainGrace)
	seconds, err = strconv.Atoi(u.one(t, "WatchdogSec"))
	require.NoError(t, err)
	require.Greater(t, time.Duration(seconds)*time.Second, 5*statusEvery)

	words := strings.Fields(u.one(t, "ExecStart"))
	require.Equal(t, "run", words[1])
	flags := []string{"--database", "--config"}
	for _, s := range config.Settings() {
		flags = append(flags, "--"+s.FlagName())
	}
	for _, word := range words[2:] {
		if strings.HasPrefix(word, "-") {
			require.Contains(t, flags, word)
		}
	}
}

func sortedKeys(u unit) []string {
	var keys []string
	for key := range u {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// TestSystemdAcceptsUnit asks systemd itself, where it is installed; the program
// is where it was built.
func TestSystemdAcceptsUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed; TestUnit has looked at the unit")
		return
	}
	program, err := buildProgram()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(deployFolder, "courier.service"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "courier.service")
	here := strings.Replace(string(text), "/usr/local/bin/courier", program, 1)
	require.NoError(t, os.WriteFile(path, []byte(here), 0o644))
	output, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, "%s", output)
	for line := range strings.Lines(string(output)) { // it also speaks of other units
		require.NotContains(t, line, "courier.service", "%s", output)
	}
}
