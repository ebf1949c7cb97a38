package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Preloaded or not, rows written before and after the sidecar has started
// arrive, also by a session that has never seen the library.
func TestPreload(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			r := startReplica(t, pgtest.Preload(preload))
			require.Equal(t, preload, r.sourceValue("SHOW shared_preload_libraries") == "pg_courier")
			r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
			r.onSource("INSERT INTO item SELECT i, 'before ' || i FROM generate_series(1, 100) i")
			r.add("default", "item")
			r.subscribe("{default}", true)
			r.onSource("INSERT INTO item SELECT i, 'waiting ' || i FROM generate_series(101, 200) i")
			courier := r.startSidecar()
			r.wait()
			r.requireEqual("item")

			r.onSource("INSERT INTO item SELECT i, 'after ' || i FROM generate_series(201, 300) i")
			r.onSource("UPDATE item SET name = 'changed' WHERE id % 3 = 0")
			r.onSource("DELETE FROM item WHERE id % 5 = 0")
			r.wait()
			r.requireEqual("item")
			require.Equal(t, "240", r.targetValue("SELECT count(*) FROM item"))
			courier.stop()
		})
	}
}
