package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFileErrors wants file, line and key of the first mistake, in one line and
// without the password that stands in most of these files.
func TestFileErrors(t *testing.T) {
	t.Parallel()
	const database = "[[database]]\ndsn = 'host=db1 dbname=shop password=topsecret'\n"
	for name, c := range map[string]struct {
		text string
		line int
		says []string
	}{
		"unknown key":             {"listen = 'none'\n\nlisten_adress = 'x'\n" + database, 3, []string{"listen_adress: ", "no such setting"}},
		"unknown key, the first":  {"bb = 1\naa = 2\n", 1, []string{"bb: ", "no such setting"}},
		"unknown table":           {database + "[log]\nlevel = 'info'\n", 3, []string{"log: ", "no such setting"}},
		"unknown dotted key":      {database + "[database.x]\ny = 1\n", 3, []string{"x: ", "no such setting of a database"}},
		"unknown key of database": {database + "[[database]]\nurl = 'topsecret'\n", 4, []string{"url: ", "name, dsn, dsn_file, passfile"}},
		"text for number":         {"max_connections = '20'", 1, []string{"max_connections: ", "without quotes", "not a text in quotes"}},
		"number for text":         {"# a comment\n\ndrain_timeout = 4", 3, []string{"drain_timeout: ", "a text in quotes is expected", "not a whole number"}},
		"boolean for text":        {"listen = false", 1, []string{"listen: ", "not a boolean"}},
		"fraction for number":     {"max_connections = 2.5", 1, []string{"max_connections: ", "with a fraction"}},
		"number out of range":     {"max_connections = 1", 1, []string{"max_connections: ", "from 2 to"}},
		"date for text":           {"log_level = 2024-01-01", 1, []string{"log_level: ", "date"}},
		"array for text":          {"log_level = ['info']", 1, []string{"log_level: ", "not an array"}},
		"duplicate key":           {"log_level = 'info'\nlog_level = 'warn'", 2, []string{"log_level: ", "already defined"}},
		"duplicate in database":   {database + "dsn = 'topsecret'", 3, []string{"dsn: ", "already defined"}},
		"bad duration":            {"listen = 'none'\nprobe_interval = '5 apples'", 2, []string{"probe_interval: ", `"5 apples" is not a duration`}},
		"duration out of range":   {"probe_interval = '1ms'", 1, []string{"probe_interval: ", "between 100ms and"}},
		"negative duration":       {"drain_timeout = '-4s'", 1, []string{"drain_timeout: ", "between 100ms and"}},
		"bad level":               {"log_level = 'loud'", 1, []string{"log_level: ", "none of debug, info, warn, error"}},
		"bad format":              {"log_format = 'xml'", 1, []string{"log_format: ", "none of text, json"}},
		"bad size":                {"memory_limit = '512'", 1, []string{"memory_limit: ", "with its unit"}},
		"size too large":          {"memory_limit = '99999999999TB'", 1, []string{"memory_limit: ", "not a size"}},
		"size too small":          {"memory_limit = '1MB'", 1, []string{"memory_limit: ", "less than 64MB"}},
		"bad address":             {"listen = '9632'", 1, []string{"listen: ", "host:port"}},
		"bad port":                {"listen = 'localhost:http'", 1, []string{"listen: ", "host:port"}},
		"not TOML":                {database + "= 3", 3, nil},
		"not closed":              {"[[database]]\ndsn = 'password=topsecret\n", 2, nil},
		"not quoted":              {"[[database]]\ndsn = password=topsecret\n", 2, nil},
		"one table":               {"[database]\ndsn = 'dbname=topsecret'", 1, []string{"database: ", "[[database]]", "not a table"}},
		"array of texts":          {"\ndatabase = ['dbname=topsecret']", 2, []string{"database: ", "[[database]]"}},
		"bad DSN":                 {"[[database]]\nname = 'x'\ndsn = 'password=topsecret nonsense'", 3, []string{"dsn: ", "not of the form"}},
		"bad URI":                 {"[[database]]\ndsn = 'postgresql://me:topsecret@db1:port/x'", 2, []string{"dsn: ", "not of the form"}},
		"unknown keyword":         {"[[database]]\ndsn = 'dbname=x password=topsecret keepalives_idle=3'", 2, []string{"dsn: ", `"keepalives_idle"`, "options="}},
		"secret as keyword":       {"[[database]]\ndsn = 'dbname=x topsecret!=3'", 2, []string{"dsn: ", "not of the form"}},
		"certificate is missing":  {"[[database]]\ndsn = 'host=h dbname=x password=topsecret sslrootcert=/does/not/exist'", 2, []string{"dsn: ", "/does/not/exist: no such file"}},
		"no DSN":                  {"\n[[database]]\nname = 'x'\n", 2, []string{"either dsn or dsn_file"}},
		"two DSNs":                {"[[database]]\ndsn = 'dbname=topsecret'\ndsn_file = 'x'", 1, []string{"either dsn or dsn_file"}},
		"empty DSN":               {"[[database]]\ndsn = ''", 2, []string{"dsn: ", "empty"}},
		"DSN file is missing":     {database + "[[database]]\ndsn_file = 'nowhere'", 4, []string{"dsn_file: ", "nowhere: no such file"}},
		"passfile is missing":     {database + "passfile = '/does/not/exist'", 3, []string{"passfile: ", "/does/not/exist: no such file"}},
		"name twice":              {"[[database]]\nname = 'x'\ndsn = 'dbname=a'\n[[database]]\nname = 'x'\ndsn = 'dbname=b'", 6, []string{`named "x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, c.text)
			_, err := Load(path)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, err.Error(), fmt.Sprintf("%s:%d: ", path, c.line))
			for _, part := range c.says {
				require.Contains(t, err.Error(), part)
			}
			requireSafe(t, err)
		})
	}
}

// requireSafe wants one line without the planted secret.
func requireSafe(t *testing.T, err error) {
	t.Helper()
	require.NotContains(t, err.Error(), "topsecret")
	require.NotContains(t, err.Error(), ": toml:")
	require.Equal(t, 0, strings.Count(err.Error(), "\n"), err.Error())
}

// TestSourceErrors wants the flag or the variable named.
func TestSourceErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags map[string][]string
		env   map[string]string
		says  string
	}{
		"flag":             {map[string][]string{"drain_timeout": {"soon"}}, nil, `--drain-timeout: "soon" is not a duration`},
		"variable":         {nil, map[string]string{"COURIER_MAX_CONNECTIONS": "many"}, `COURIER_MAX_CONNECTIONS: "many" is neither`},
		"DSN of flag":      {map[string][]string{"database": {"dbname=x", "topsecret"}}, nil, "--database: the connection string is not"},
		"DSN of variable":  {nil, map[string]string{"COURIER_DATABASE": "dbname=x\ntopsecret"}, "COURIER_DATABASE: the connection string is not"},
		"file of flag":     {map[string][]string{"config": {"/does/not/exist"}}, nil, "--config: read /does/not/exist: no such file or directory"},
		"file of variable": {nil, map[string]string{"COURIER_CONFIG": "/does/not/exist"}, "COURIER_CONFIG: read /does/not/exist: no such file or directory"},
		"file is a folder": {map[string][]string{"config": {"/"}}, nil, "--config: read /: is a directory"},
		"empty flag":       {map[string][]string{"log_format": {""}}, nil, `--log-format: "" is none of`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Read(Sources{Flags: c.flags, LookupEnv: environment(c.env)})
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, err.Error(), c.says)
			requireSafe(t, err)
		})
	}
}
