package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// copyIndexes are indexes of the node of every kind that a copy drops, with all that
// can be said of one.
const copyIndexes = `
CREATE INDEX by_n ON item (n DESC NULLS LAST) INCLUDE (id) WITH (fillfactor = 70);
CREATE INDEX "by ""lower""" ON item (lower(filler) text_pattern_ops, n) WHERE n > 5;
CREATE INDEX hashed ON item USING hash (n) TABLESPACE elsewhere;
CREATE UNIQUE INDEX unique_n ON item (n, id);
CREATE INDEX last ON item (n);
COMMENT ON INDEX by_n IS 'it''s; a comment';
ALTER INDEX "by ""lower""" ALTER COLUMN 1 SET STATISTICS 500;
ALTER TABLE item CLUSTER ON by_n;`

// indexesOf says all of a table's indexes on the node.
func (r *replica) indexesOf(table string) string {
	r.t.Helper()
	return r.targetValue(`SELECT string_agg(concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered,
			obj_description(i.indexrelid, 'pg_class'), s.spcname, a.targets), E'\n' ORDER BY c.relname)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
		CROSS JOIN LATERAL (SELECT array_agg(a.attstattarget ORDER BY a.attnum) AS targets FROM pg_attribute a WHERE a.attrelid = i.indexrelid) a
		WHERE i.indrelid = '` + table + `'::regclass`)
}

// Indexes that are dropped for a copy are there again at its end as they were, also
// when the sidecar and the node's server are killed in between. Where DDL meets the
// copy they come back before it, and so have it happen to them.
func TestCopyRebuildsIndexes(t *testing.T) {
	r := startSlowCopy(t, 3000, `, "copy_indexes": "rebuild"`)
	tablespace := connectBackend(t, r.target)
	tablespace.exec("SET allow_in_place_tablespaces = on")
	tablespace.exec("CREATE TABLESPACE elsewhere LOCATION ''")
	r.onTarget(copyIndexes)
	before := r.indexesOf("item")
	const present = "SELECT count(*) FROM pg_index WHERE indrelid = 'item'::regclass"
	require.Equal(t, "6", r.targetValue(present))

	courier := r.startSidecar()
	const chunks = "SELECT count(*) > 2 FROM courier_target.copied_chunk"
	eventually(t, "some chunks", func() bool {
		return r.targetValue("SELECT to_regclass('courier_target.copied_chunk') IS NOT NULL") == "t" && r.targetValue(chunks) == "t"
	})
	require.Equal(t, "2", r.targetValue(present))
	courier.kill9()
	require.NoError(t, r.target.Kill9())
	require.NoError(t, r.target.Start(t.Context()))
	require.Equal(t, "2", r.targetValue(present))
	courier = r.startSidecar()
	r.setRate("null")
	r.wait()
	require.Equal(t, before, r.indexesOf("item"))
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM courier_target.dropped_index"))

	// killed while they are made
	r.onTarget(`CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF n = 100 THEN PERFORM pg_sleep(0.5); END IF; RETURN n; END';
		CREATE INDEX slow ON item (slowly(n))`)
	before = r.indexesOf("item")
	r.onSource("SELECT courier.alter_subscription_resynchronize_table($1, 'item', 'truncate')", subscription)
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1", patience)
	courier.kill9()
	require.NoError(t, r.target.Kill9())
	require.NoError(t, r.target.Start(t.Context()))
	require.Equal(t, "2", r.targetValue(present))
	courier = r.startSidecar()
	r.wait()
	require.Equal(t, before, r.indexesOf("item"))
	r.requireEqual("item")

	r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	r.wait()
	r.onTarget("DROP INDEX slow")
	r.setRate("3000")
	r.onSource("SELECT courier.alter_subscription_resynchronize_table($1, 'item', 'truncate')", subscription)
	eventually(t, "some chunks", func() bool { return r.targetValue(chunks) == "t" && r.targetValue(present) == "2" })
	r.onSource("ALTER TABLE item RENAME COLUMN n TO number")
	r.onSource("ALTER TABLE item RENAME TO thing")
	r.setRate("null")
	r.wait()
	require.Equal(t, "6", r.targetValue("SELECT count(*) FROM pg_index WHERE indrelid = 'thing'::regclass"), "indexes of the renamed table")
	r.requireEqual("thing")
	courier.stop()
}
