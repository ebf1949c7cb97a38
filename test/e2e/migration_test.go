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
		for _, statement := range regexp.MustCompile(`(?m);[^;\n]*$`).Split(sql, -1) {
			if strings.TrimSpace(statement) != "" {
				side.Exec(t, appDatabase, statement)
			}
		}
		if strings.Contains(sql, "1 | 10 | 49990") {
			require.Equal(t, "50001", r.targetValue("SELECT count(*) FROM orders"))
		}
	}
	require.Equal(t, "50002", r.targetValue("SELECT count(*) FROM orders"))
	r.requireEqual("customer")
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_foreign_server"))
}
