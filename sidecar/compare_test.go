package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// TestCompareCommand runs `courier compare` as a script does: exit code 0 when
// the tables are equal, 1 when they differ, 2 when that can't be said.
func TestCompareCommand(t *testing.T) {
	t.Parallel()
	path := builtFor(t)
	cluster := pgtest.Start(t, pgtest.Name("compare"), pgtest.Setting("courier.workers", "off"))
	dsn, node := cluster.Database(t, "app"), cluster.Database(t, "node")
	for _, database := range []string{"app", "node"} {
		cluster.Exec(t, database, `CREATE SCHEMA shop; CREATE TABLE shop.item (id int PRIMARY KEY, name text); CREATE TABLE shop."Order" (id text PRIMARY KEY);
			INSERT INTO shop.item SELECT i, 'ü' || i FROM generate_series(1, 10) i`)
	}
	cluster.Exec(t, "app", "CREATE EXTENSION pg_courier CASCADE")
	cluster.Exec(t, "app", "SELECT courier.create_node('eu', $1)", node)
	cluster.Exec(t, "app", `SELECT courier.replication_set_add_all_tables('default', '{shop}'); SELECT courier.create_subscription('s', 'eu', copy_data => false)`)
	cluster.Exec(t, "app", "SELECT courier.ship('s')")
	compare := func(args ...string) (int, string) {
		return call(t, path, append([]string{"compare", "--database", dsn + " password=topsecret", "--subscription", "s"}, args...)...)
	}

	code, output := compare()
	require.Equal(t, 0, code, output)
	require.Contains(t, output, "shop.item: 10 rows compared, equal\n")
	require.NotContains(t, output, "\x1b", "there is no terminal")

	cluster.Exec(t, "node", `UPDATE shop.item SET name = 'x' WHERE id = 3; DELETE FROM shop.item WHERE id = 4; INSERT INTO shop."Order" VALUES (E'ü\n')`)
	code, output = compare("--max-keys", "1")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "shop.item: 10 rows compared, 1 missing, 0 extra, 1 different\n  different  {\"id\": \"3\"}\n  and 1 more\n")
	for _, name := range []string{"Order", `"Order"`, "shop.Order", `shop."Order"`} {
		code, output = compare("--table", name, "--json")
		require.Equal(t, 1, code, output)
		var tables []comparedTable
		require.NoError(t, json.Unmarshal([]byte(output), &tables))
		require.Len(t, tables, 1)
		require.JSONEq(t, `{"id": "ü\n"}`, string(tables[0].Keys[0].Key))
	}
	code, output = compare("--print")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, `SELECT courier.resend('shop.item', '[{"id": "3"}, {"id": "4"}]');`)
	require.Equal(t, "0", cluster.Value(t, "app", "SELECT pending_changes FROM courier.subscription_status"))
	code, output = compare("--repair")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "2 rows are queued")
	cluster.Exec(t, "app", "SELECT courier.ship('s')")
	code, output = compare()
	require.Equal(t, 0, code, output)

	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no database":     {[]string{}, "name at least one database"},
		"two databases":   {[]string{"--database", dsn, "--database", node, "--subscription", "s"}, "one database"},
		"no subscription": {[]string{"--database", dsn}, "name the subscription"},
		"unknown one":     {[]string{"--database", dsn, "--subscription", "nono"}, "subscription_status lists them"},
		"unknown table":   {[]string{"--database", dsn, "--subscription", "s", "--table", "nono"}, "nono is not among the tables"},
		"both":            {[]string{"--database", dsn, "--subscription", "s", "--repair", "--print"}, "exclude each other"},
		"keys":            {[]string{"--database", dsn, "--subscription", "s", "--max-keys", "-1"}, "--max-keys cannot be -1"},
		"timeout":         {[]string{"--database", dsn, "--subscription", "s", "--timeout", "0s"}, "--timeout cannot be 0s"},
		"not there":       {[]string{"--database", "host=127.0.0.1 port=1 dbname=x password=topsecret", "--subscription", "s"}, "connect to 127.0.0.1:1"},
		"no extension":    {[]string{"--database", node, "--subscription", "s"}, "courier"},
	} {
		t.Run(name, func(t *testing.T) {
			code, output := call(t, path, append([]string{"compare"}, c.args...)...)
			require.Equal(t, exitUsage, code, output)
			require.Contains(t, output, c.says)
			require.NotContains(t, output, "topsecret")
		})
	}
}
