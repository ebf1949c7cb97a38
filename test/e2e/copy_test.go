package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A shipper that ends right behind a copy must leave a progress on the node that
// says so: what it skipped because it is in the copy must not come again.
func TestCopyAddedTableOnce(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE log (at int, what text)")
	r.add("default", "item")
	r.addKeyless()
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.subscribe("{default,log}", true)
	r.ship()

	r.add("log", "log")
	r.onSource("INSERT INTO log VALUES (1, 'captured, and in the copy')")
	r.ship()
	r.requireEqual("item", "log")
	r.ship()
	r.requireEqual("item", "log")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM log"))
}
