package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Tables are altered, renamed and dropped while some of their rows are on the node
// and some are not.
func TestCopyMeetsDDL(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, filler text, gone int)")
	r.onBoth("CREATE TABLE unwanted (id int PRIMARY KEY, filler text)")
	for _, table := range []string{"item", "unwanted"} {
		r.onSource("INSERT INTO " + table + " SELECT i, repeat('f', 200) FROM generate_series(1, 20000) i")
		r.add("default", table)
	}
	r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	r.subscribe("{default}", true)
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": 400}')`, subscription)
	courier := r.startSidecar()
	eventually(t, "some chunks", func() bool {
		return r.sourceValue("SELECT count(*) FROM courier.copy_status WHERE chunks_done > 0 AND chunks_done < chunks_total") != "0"
	})
	r.onSource("DROP TABLE unwanted")
	r.onSource("ALTER TABLE item ADD COLUMN more int NOT NULL DEFAULT 5")
	r.onSource("ALTER TABLE item DROP COLUMN gone")
	r.onSource("UPDATE item SET more = id WHERE id % 3 = 0")
	require.NotEqual(t, "copied", r.sourceValue("SELECT state FROM courier.copy_status WHERE table_name = 'item'"))
	r.onSource("ALTER TABLE item RENAME TO thing")
	r.onSource("INSERT INTO thing VALUES (30000, 'new', 7)")
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": null}')`, subscription)
	r.wait()
	r.requireEqual("thing")
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_class WHERE relname = 'unwanted'"))
	require.Equal(t, "0 0", r.targetValue("SELECT (SELECT count(*) FROM courier_target.copying) || ' ' || "+
		"(SELECT count(*) FROM courier_target.copied_chunk)"))
	require.Equal(t, "t", r.sourceValue("SELECT copied >= 20000 FROM courier.stat_table WHERE table_name = 'thing'"))
	courier.stop()
}
