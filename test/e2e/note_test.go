package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A shipper that ends between the target's commit and its note on the source
// leaves a note that is behind. The next one brings it up to date, also when it
// has nothing to ship: who waits for the subscription waits for the note.
func TestNoteOfLostShipper(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.ship()
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	conn := r.source.Connect(t, appDatabase)
	for _, sql := range []string{"BEGIN", "SELECT courier.ship('" + subscription + "')", "ROLLBACK"} {
		_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	r.requireEqual("item")

	courier := r.startSidecar()
	require.Equal(t, "t", r.sourceValue("SELECT courier.wait_for_subscription('"+subscription+"', '20 s')"))
	require.Equal(t, "0", r.sourceValue("SELECT pending_changes FROM courier.subscription_status"))
	courier.stop()
}
