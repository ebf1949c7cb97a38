package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write puts a configuration file into a directory of the test.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "courier.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// environment is a LookupEnv.
func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

const everything = `
listen = "0.0.0.0:9700"
log_level = "debug"
log_format = "json"
max_connections = 20
drain_timeout = "10s"
probe_interval = "1m"
memory_limit = "512MB"

[[database]]
name = "shop"
dsn = "host=/run/postgresql dbname=shop user=courier"

[[database]]
dsn = "postgresql://courier@db1:5433/billing"
`

func TestFileHasEverySetting(t *testing.T) {
	t.Parallel()
	path := write(t, everything)
	c, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, "0.0.0.0:9700", c.Listen)
	require.Equal(t, slog.LevelDebug, c.LogLevel)
	require.Equal(t, FormatJSON, c.LogFormat)
	require.Equal(t, 20, c.MaxConnections)
	require.Equal(t, 10*time.Second, c.DrainTimeout)
	require.Equal(t, time.Minute, c.ProbeInterval)
	require.EqualValues(t, 512<<20, c.MemoryLimit)
	require.Empty(t, c.Warnings)
	require.Len(t, c.Databases, 2)
	require.Equal(t, "shop", c.Databases[0].Name)
	require.Equal(t, "host=/run/postgresql dbname=shop user=courier", c.Databases[0].DSN)
	require.Equal(t, "billing@db1:5433", c.Databases[1].Name)
	for _, s := range Settings() {
		where, given := c.Given(s.Name)
		require.True(t, given, s.Name)
		require.Contains(t, where, path)
		require.Contains(t, where, s.Name)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := Read(Sources{})
	require.NoError(t, err)
	require.Equal(t, DefaultListen, c.Listen)
	require.Equal(t, slog.LevelInfo, c.LogLevel)
	require.Equal(t, FormatText, c.LogFormat)
	require.Zero(t, c.MaxConnections)
	require.Equal(t, 4*time.Second, c.DrainTimeout)
	require.Zero(t, c.MemoryLimit)
	require.Empty(t, c.Databases)
	_, given := c.Given("listen")
	require.False(t, given)
}

// TestPrecedence gives one setting more in each place than in the one before it.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	path := write(t, everything)
	c, err := Read(Sources{
		LookupEnv: environment(map[string]string{
			"COURIER_CONFIG":        path,
			"COURIER_LOG_LEVEL":     "warn",
			"COURIER_DRAIN_TIMEOUT": "20s",
			"COURIER_LISTEN":        "", // empty counts as absent
			"COURIER_DATABASE":      "dbname=one host=a,b\n\n  dbname=two host=c  \n",
		}),
		Flags: map[string][]string{"drain_timeout": {"30s"}},
	})
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, c.DrainTimeout, "flag")
	require.Equal(t, slog.LevelWarn, c.LogLevel, "environment")
	require.Equal(t, "0.0.0.0:9700", c.Listen, "file")
	require.Equal(t, []string{"one@a:5432", "two@c:5432"}, names(c), "the list of the environment hides the file's")

	where, _ := c.Given("drain_timeout")
	require.Equal(t, "--drain-timeout", where)
	where, _ = c.Given("log_level")
	require.Equal(t, "COURIER_LOG_LEVEL", where)

	c, err = Read(Sources{
		LookupEnv: environment(map[string]string{"COURIER_DATABASE": "dbname=one host=a", "COURIER_CONFIG": "/does/not/exist"}),
		Flags:     map[string][]string{"database": {"dbname=three host=d"}, "config": {path}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{"three@d:5432"}, names(c))
}

func names(c *Config) []string {
	var names []string
	for _, d := range c.Databases {
		names = append(names, d.Name)
	}
	return names
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, `
database = [
	{ dsn = "host=db1 dbname=shop user=a" },
	{ dsn = "host=db1 dbname=shop user=b" },
	{ dsn = "host=db2 dbname=x", name = "shop@db1:5432#2" },
	{ dsn = "host=db1 user=shop" },
]`))
	require.NoError(t, err)
	require.Equal(t, []string{"shop@db1:5432", "shop@db1:5432#3", "shop@db1:5432#2", "shop@db1:5432#4"}, names(c))
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	a, err := Load(write(t, everything))
	require.NoError(t, err)
	b, err := Load(write(t, everything))
	require.NoError(t, err)
	require.Empty(t, a.Differences(b))
	b.LogLevel, b.Listen = slog.LevelError, ""
	b.Databases[0].DSN = "dbname=other"
	require.Equal(t, []string{"database", "listen", "log_level"}, a.Differences(b))
}
