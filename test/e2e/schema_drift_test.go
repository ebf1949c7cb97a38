package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// schemaDrifts are ways in which a node's table stops to fit. The statement of the
// hint, run as it is, makes it fit again.
var schemaDrifts = []struct {
	name             string
	source, target   string // what is run there
	insert           string // with the number of the row
	sqlstate, column string
	says             []string // by the error
	fix              string
}{
	{"column missing", `ALTER TABLE item ADD note varchar(20)[]`, "",
		`INSERT INTO item (id, v, note) VALUES (%d, '1', '{a}')`, "42703", "note",
		[]string{"public.item", "column note", "does not exist"},
		`ALTER TABLE public.item ADD COLUMN note character varying(20)[];`},
	{"type differs", `ALTER TABLE item ALTER v TYPE text`, "",
		`INSERT INTO item (id, v) VALUES (%d, 'one')`, "42804", "v",
		[]string{"public.item", "column v", "integer on the target", "text on the source"},
		`ALTER TABLE public.item ALTER COLUMN v TYPE text USING v::text;`},
	{"label missing", `ALTER TYPE mood ADD VALUE 'glad' AFTER 'calm'; ALTER TABLE item ADD m mood`, `ALTER TABLE item ADD m mood`,
		`INSERT INTO item (id, m) VALUES (%d, 'glad')`, "42804", "m",
		[]string{"public.item", "column m", "mood", "glad"},
		`ALTER TYPE public.mood ADD VALUE 'glad' AFTER 'calm';`},
	{"table missing", "", `DROP TABLE item`,
		`INSERT INTO item (id) VALUES (%d)`, "42P01", "",
		[]string{"public.item", "does not exist"},
		`CREATE TABLE public.item (id integer NOT NULL, v text, note character varying(20)[], m public.mood, CONSTRAINT item_pkey PRIMARY KEY (id));`},
}

// FAULTS: schema drift on target (column missing, type differs, table missing).
// That subscription stops before anything of the transaction is applied, another
// one goes on; compare_schemas names the difference; after the repair all that
// has waited arrives in order.
func TestSchemaDrift(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TYPE mood AS ENUM ('sad', 'calm'); CREATE TABLE item (id int PRIMARY KEY, v int); CREATE TABLE beside (id int PRIMARY KEY)")
	r.add("default", "item")
	r.onSource("SELECT courier.create_replication_set('beside')")
	r.add("beside", "beside")
	r.subscribe("{default}", false)
	r.onSource("SELECT courier.create_subscription('beside', $1, '{beside}', copy_data => false)", targetNode)
	courier := r.startSidecar()
	for i, drift := range schemaDrifts {
		t.Log(drift.name)
		first := 10 * (i + 1)
		if drift.source != "" {
			r.onSource(drift.source)
		}
		if drift.target != "" {
			r.onTarget(drift.target)
		}
		r.onSource(fmt.Sprintf("INSERT INTO beside VALUES (%d); "+drift.insert, first, first))
		r.onSource(fmt.Sprintf("UPDATE item SET id = id + 1 WHERE id = %d", first))
		r.onSource(fmt.Sprintf(drift.insert, first))
		r.onSource(fmt.Sprintf("DELETE FROM item WHERE id = %d", first+1))

		var status map[string]any
		eventually(t, "the stop", func() bool { status = r.status(); return status["state"] == "stopped" })
		require.Equal(t, drift.sqlstate, status["last_error_sqlstate"], status["last_error"])
		require.Equal(t, "public.item", status["last_error_table"])
		for _, says := range drift.says {
			require.Contains(t, status["last_error"], says)
		}
		fix, found := strings.CutPrefix(fmt.Sprint(status["last_error_hint"]), "On the target: ")
		require.True(t, found, status["last_error_hint"])
		require.Equal(t, drift.fix, strings.ReplaceAll(fix, `"`, ""))
		require.Equal(t, "t", r.sourceValue(fmt.Sprintf("SELECT count(*) > 0 FROM courier.compare_schemas('%s') WHERE table_name = 'item' AND statement IS NOT NULL", targetNode)))
		eventually(t, "the other subscription", func() bool {
			return r.targetValue(fmt.Sprintf("SELECT count(*) FROM beside WHERE id = %d", first)) == "1"
		})
		if drift.target != "DROP TABLE item" {
			require.Equal(t, "0", r.targetValue(fmt.Sprintf("SELECT count(*) FROM item WHERE id >= %d", first)))
		} else {
			r.onSource(fmt.Sprintf("DELETE FROM item WHERE id < %d", first)) // the node has lost those
		}

		r.onTarget(fix)
		eventually(t, "shipping to go on", func() bool { return r.status()["state"] == "streaming" })
		r.wait()
		r.requireEqual("item", "beside")
		require.Equal(t, "0", r.sourceValue(fmt.Sprintf("SELECT count(*) FROM courier.compare_schemas('%s')", targetNode)))
	}
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dead_letter"))
	courier.stop()
}
