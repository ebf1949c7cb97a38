package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tutorial of docs/migration.md works as it is written: its statements are
// run in their order, those that begin with "-- old" on one cluster and "-- new"
// on the other.
func TestMigrationTutorial(t *testing.T) {
	text, err := os.ReadFile("../../docs/migration.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sql\n-- (old|new)\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(blocks), 10)
	require.Len(t, blocks, strings.Count(string(text), "```sql"), "a block does not say where it is run")

	r := startBare(t)
	results := 0
	address := regexp.MustCompile(`'host=(old|new)\.example [^']*'`)
	for _, block := range blocks {
		sql := address.ReplaceAllStringFunc(block[2], func(dsn string) string {
			if strings.Contains(dsn, "old.example") {
				return "'" + r.source.DSN(appDatabase) + "'"
			}
			return "'" + r.target.DSN(appDatabase) + "'"
		})
		side := r.source
		if block[1] == "new" {
			side = r.target
		}
		// one statement at a time: a copy wants what was done before to be committed
		for _, statement := range regexp.MustCompile(`(?ms)(.*?);[ ]*(?:-- ([^\n]*))?$`).FindAllStringSubmatch(sql, -1) {
			if !strings.Contains(statement[2], "|") {
				side.Exec(t, appDatabase, statement[1])
				continue
			}
			row := side.Query(t, appDatabase, statement[1])
			require.Equal(t, statement[2], strings.Join(row[0], " | "), "what %s gives", statement[1])
			results++
		}
	}
	require.Positive(t, results, "no result was compared")
	require.Equal(t, "50002", r.targetValue("SELECT count(*) FROM orders"))
	r.requireEqual("customer")
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_foreign_server"))
}
