package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A table that others refer to is copied once more, where foreign keys act on the
// node: keys are changed while some of its rows are copied and some are not, and what
// cascades there takes no row of the other table with it.
func TestCopyParentWhileForeignKeysAct(t *testing.T) {
	r := startPlain(t)
	const tables = `CREATE TABLE head (id int PRIMARY KEY, filler text);
		CREATE TABLE part (id int PRIMARY KEY, head int REFERENCES head ON UPDATE CASCADE ON DELETE CASCADE)`
	r.onSource(tables)
	r.onTargetAsRole(tables)
	r.onSource("INSERT INTO head SELECT i, repeat('f', 200) FROM generate_series(1, 20000) i")
	r.onSource("INSERT INTO part SELECT i, i FROM generate_series(1, 20000, 100) i")
	r.add("default", "head")
	r.add("default", "part")
	r.subscribe("{default}", true)
	courier := r.startSidecar()
	r.wait()

	// the node has one of its own
	r.onTargetAsRole("CREATE TABLE note (head int REFERENCES head ON UPDATE CASCADE ON DELETE CASCADE); INSERT INTO note SELECT head FROM part")
	r.onTarget("UPDATE head SET filler = 'drifted' WHERE id % 5000 = 1")
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": 400}')`, subscription)
	r.onSource("SELECT courier.alter_subscription_resynchronize_table($1, 'head')", subscription)
	eventually(t, "some chunks", func() bool {
		return r.sourceValue("SELECT count(*) FROM courier.copy_status WHERE chunks_done > 0 AND chunks_done < chunks_total") != "0"
	})
	r.onSource("UPDATE head SET id = id + 100000 WHERE id % 1000 = 1")
	r.onSource("BEGIN; UPDATE head SET filler = 'changed' WHERE id = 301; UPDATE head SET id = 302000 WHERE id = 301; COMMIT")
	r.onSource("BEGIN; INSERT INTO head VALUES (500000, 'new'); INSERT INTO part VALUES (500000, 500000); COMMIT")
	r.onSource("DELETE FROM head WHERE id = 19901")
	require.NotEqual(t, "copied", r.sourceValue("SELECT state FROM courier.copy_status WHERE table_name = 'head'"))
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": null}')`, subscription)
	r.wait()
	r.requireEqual("head", "part")
	require.Equal(t, "199 20", r.targetValue("SELECT count(*) || ' ' || count(*) FILTER (WHERE head > 100000 AND head < 200000) FROM note"))
	courier.stop()
}
