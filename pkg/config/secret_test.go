package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestSecretsApart reads the secret from files named in the configuration file.
func TestSecretsApart(t *testing.T) {
	t.Parallel()
	path := write(t, `
[[database]]
dsn_file = "shop.dsn"
[[database]]
dsn = "host=db1 dbname=billing user=courier"
passfile = "it's a pass file"
[[database]]
dsn = "postgresql://courier@db1/crm?application_name=x"
passfile = "it's a pass file"
[[database]]
dsn = "postgresql://courier@db1/hr"
passfile = "it's a pass file"
`)
	folder := filepath.Dir(path)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "shop.dsn"), []byte("host=db1 dbname=shop password=one\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "it's a pass file"), []byte("db1:5432:*:courier:two\n"), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
	require.Equal(t, []string{"shop@db1:5432", "billing@db1:5432", "crm@db1:5432", "hr@db1:5432"}, names(c))
	for i, want := range []string{"one", "two", "two", "two"} {
		parsed, err := pgx.ParseConfig(c.Databases[i].DSN)
		require.NoError(t, err)
		require.Equal(t, want, parsed.Password, c.Databases[i].Name)
	}
}

// TestOpenFilesAreWarnedOf: others may read a file with a password in it.
func TestOpenFilesAreWarnedOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		mode   os.FileMode
		warned string
	}{
		"password":             {"[[database]]\ndsn = 'dbname=x password=topsecret'", 0o644, "courier.toml"},
		"password, twice":      {"[[database]]\ndsn = 'dbname=x password=topsecret'\n[[database]]\ndsn = 'dbname=y password = topsecret'", 0o644, "courier.toml"},
		"password in a URI":    {"[[database]]\ndsn = 'postgres://me:topsecret@db1/x'", 0o644, "courier.toml"},
		"parameter of a URI":   {"[[database]]\ndsn = 'postgres://db1/x?password=topsecret'", 0o644, "courier.toml"},
		"group may":            {"[[database]]\ndsn = 'dbname=x password=topsecret'", 0o640, ""},
		"no password":          {"[[database]]\ndsn = 'dbname=x user=password'", 0o644, ""},
		"no password in a URI": {"[[database]]\ndsn = 'postgres://me@db1/x'", 0o644, ""},
		"dsn_file":             {"[[database]]\ndsn_file = 'secret'", 0o644, "secret"},
		"passfile":             {"[[database]]\ndsn = 'dbname=x'\npassfile = 'secret'", 0o644, "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, c.text)
			secret := filepath.Join(filepath.Dir(path), "secret")
			require.NoError(t, os.WriteFile(secret, []byte("dbname=x password=topsecret"), 0o600))
			require.NoError(t, os.Chmod(secret, c.mode))
			require.NoError(t, os.Chmod(path, c.mode))
			config, err := Load(path)
			require.NoError(t, err)
			if c.warned == "" {
				require.Empty(t, config.Warnings)
				return
			}
			require.Len(t, config.Warnings, 1)
			require.Contains(t, config.Warnings[0], filepath.Join(filepath.Dir(path), c.warned)+" holds a password")
			require.NotContains(t, config.Warnings[0], "topsecret")
		})
	}
}

// TestCommandLineIsWarnedOf: ps shows it.
func TestCommandLineIsWarnedOf(t *testing.T) {
	t.Parallel()
	const dsn = "dbname=x password=topsecret"
	c, err := Read(Sources{Flags: map[string][]string{"database": {dsn}}})
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	require.NotContains(t, c.Warnings[0], "topsecret")

	c, err = Read(Sources{LookupEnv: environment(map[string]string{"COURIER_DATABASE": dsn})})
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
}
