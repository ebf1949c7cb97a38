package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/doctor"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// TestDoctor runs `courier doctor` as a script does: exit codes by severity.
func TestDoctor(t *testing.T) {
	t.Parallel()
	path := builtFor(t)
	cluster := pgtest.Start(t, pgtest.Name("doctor"), pgtest.Durable())
	dsn := cluster.Database(t, "app")

	code, output := call(t, path, "doctor", "--json", "--database", dsn)
	require.Equal(t, 2, code, output)
	var report doctor.Report
	require.NoError(t, json.Unmarshal([]byte(output), &report))
	require.Equal(t, doctor.Error, report.Worst)
	require.Contains(t, output, "CREATE EXTENSION pg_courier CASCADE")

	cluster.Exec(t, "app", "CREATE EXTENSION pg_courier CASCADE")
	code, output = call(t, path, "doctor", "--database", dsn)
	require.Equal(t, 0, code, output)
	require.Contains(t, output, "info    preload")
	require.NotContains(t, output, "ok      ")

	// a password in the call is a warning, and not repeated
	code, output = call(t, path, "doctor", "--all", "--database", dsn+" password=topsecret")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "warning password")
	require.Contains(t, output, "ok      extension")
	require.NotContains(t, output, "topsecret")
	require.NotContains(t, output, "\x1b", "there is no terminal")

	code, output = call(t, path, "doctor", "--database", dsn, "--database", "host=127.0.0.1 port=1 dbname=app password=topsecret")
	require.Equal(t, 2, code, output)
	require.Contains(t, output, "database app@127.0.0.1:1")
	require.NotContains(t, output, "topsecret")
	require.NotContains(t, output, "goroutine")
}
