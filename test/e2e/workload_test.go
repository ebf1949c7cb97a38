package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const bareDatabase = "bare" // of the source, without pg_courier

// A schema and a workload of the breadth of PostgreSQL's own regression tests: each
// file of testdata/workload, a theme, runs in a database without pg_courier and in
// one where a set takes every table as soon as it is created. The user is told the
// same, to the letter, errors included; and the node has the same rows in the end.
func TestWorkload(t *testing.T) {
	files, err := filepath.Glob("testdata/workload/*.sql")
	require.NoError(t, err)
	require.Greater(t, len(files), 15)
	programs, err := pgtest.FindInstallation()
	require.NoError(t, err)
	r := startReplica(t, pgtest.Settings(map[string]string{"log_min_messages": "fatal", "courier.workers": "off"}))
	r.source.Database(t, bareDatabase)
	r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	r.subscribe("{default}", false)
	newer := r.sourceValue("SELECT current_setting('server_version_num')::int >= 150000") == "t"

	for _, file := range files {
		theme := strings.TrimSuffix(filepath.Base(file), ".sql")
		if theme == "merge" && !newer {
			continue
		}
		t.Run(theme, func(t *testing.T) {
			r := &replica{t: t, source: r.source, target: r.target}
			r.onBoth("CREATE SCHEMA " + theme)
			r.source.Exec(t, bareDatabase, "CREATE SCHEMA "+theme)
			r.onSource("SELECT courier.replication_set_add_schema('default', $1)", theme)
			told := func(database string) string {
				psql := exec.Command(programs.Program("psql"), "-X", "-a", "-d", r.source.DSN(database), "-f", file)
				psql.Env = append(os.Environ(), "PGOPTIONS=-c search_path="+theme)
				var output bytes.Buffer
				psql.Stdout, psql.Stderr = &output, &output
				require.NoError(t, psql.Run(), "%s", &output)
				return output.String()
			}
			require.Equal(t, told(bareDatabase), told(appDatabase))
			r.ship()
			var tables []string
			for _, row := range r.source.Query(t, appDatabase, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
				JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '`+theme+`' AND c.relkind IN ('r', 'p') ORDER BY 1`) {
				tables = append(tables, row[0])
			}
			r.requireEqual(tables...)
		})
	}
	require.Equal(t, "0", r.sourceValue(`SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname !~ '^(pg_|courier|information_schema|public)' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
			AND NOT EXISTS (SELECT FROM courier.replication_set_table t WHERE t.relation = c.oid)`), "a table that no set has taken")
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dead_letter"))
}
