package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// A worker of housekeeping refreshes foreign tables when it is asked to; what it
// cannot do is said in the status, and done when nothing is in the way any more.
// It keeps out of the way of DROP DATABASE.
func TestForeignTablesRefreshedOnSchedule(t *testing.T) {
	r := startReplica(t, pgtest.Preload(true))
	r.onTarget("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'one')")
	r.onSource("CREATE EXTENSION postgres_fdw; CREATE SCHEMA eu")
	r.onSource("SELECT courier.import_tables('eu', 'public', 'eu')")
	r.onSource("CREATE VIEW named AS SELECT name FROM eu.item")
	r.onTarget("ALTER TABLE item ADD price numeric; CREATE TABLE later (id int)")
	require.Equal(t, "f", r.sourceValue("SELECT to_regclass('eu.later') IS NOT NULL"), "it is off unless asked for")

	r.onSource("SELECT courier.schedule_foreign_refresh('eu', '1 s')")
	r.source.Eventually(t, appDatabase, "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('eu.item') AND attname = 'price'", "1", workerPatience)
	r.source.Eventually(t, appDatabase, "SELECT to_regclass('eu.later') IS NOT NULL", "t", workerPatience)
	r.source.Eventually(t, appDatabase, "SELECT reltuples FROM pg_class WHERE oid = 'eu.item'::regclass", "1", workerPatience)

	r.onTarget("ALTER TABLE item DROP name")
	r.source.Eventually(t, appDatabase, `SELECT count(*) > 0 FROM courier.foreign_table_status
		WHERE last_error_sqlstate = '2BP01' AND last_error LIKE '%name%'`, "t", workerPatience)
	r.onSource("DROP VIEW named")
	r.source.Eventually(t, appDatabase, "SELECT count(*) FROM courier.foreign_table_status WHERE last_error IS NOT NULL", "0", workerPatience)
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_attribute WHERE attrelid = 'eu.item'::regclass AND attname = 'name' AND NOT attisdropped"))

	r.source.Exec(t, "postgres", "DROP DATABASE "+appDatabase)
}
