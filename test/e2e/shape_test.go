package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A session whose first write to a table is taken back, by a savepoint, a
// rollback or ROLLBACK PREPARED, describes the table all the same when it writes
// to it in earnest.
func TestFirstWriteTakenBack(t *testing.T) {
	takenBack := map[string][]string{
		"savepoint": {"BEGIN; SAVEPOINT a", "INSERT INTO item VALUES (1, 'gone')", "ROLLBACK TO a", "COMMIT"},
		"exception": {"DO $$ BEGIN INSERT INTO item VALUES (1, 'gone'); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$"},
		"rollback":  {"BEGIN", "INSERT INTO item VALUES (1, 'gone')", "ROLLBACK"},
		"prepared":  {"BEGIN", "INSERT INTO item VALUES (1, 'gone')", "PREPARE TRANSACTION 'p'", "ROLLBACK PREPARED 'p'"},
	}
	r := startReplica(t)
	for name, statements := range takenBack {
		t.Run(name, func(t *testing.T) {
			r := &replica{t: t, source: r.source, target: r.target}
			r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
			r.add("default", "item")
			r.subscribe("{default}", false)
			conn := r.source.Connect(t, appDatabase)
			for _, sql := range append(statements, "INSERT INTO item VALUES (2, 'here')") {
				_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err, sql)
			}
			r.ship()
			r.requireEqual("item")
			require.Equal(t, "1", r.targetValue("SELECT count(*) FROM item"))
		})
		r.onSource("SELECT courier.drop_subscription($1)", subscription)
		r.onBoth("DROP TABLE item")
	}
}
