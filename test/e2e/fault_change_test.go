package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// changeBound is how soon a change of the configuration takes effect: within
// about a second, and what a loaded machine adds.
const changeBound = 3 * time.Second

// requireSoon waits for a row of item on a database of the target.
func (r *replica) requireSoon(database string, id int) {
	r.t.Helper()
	r.target.Eventually(r.t, database, fmt.Sprintf("SELECT count(*) FROM item WHERE id = %d", id), "1", changeBound)
}

// insert adds a row.
func (r *replica) insert(id int) {
	r.t.Helper()
	r.onSource("INSERT INTO item VALUES ($1, 0)", id)
}

// subscribeItem creates a subscription with a name of its own.
func (r *replica) subscribeItem(name, node string) {
	r.t.Helper()
	r.onSource("SELECT courier.create_subscription($1, $2, '{default}', copy_data => false)", name, node)
}

// startItem is a sidecar that has shipped something of the table item.
func startItem(t *testing.T, opts ...pgtest.Option) (*replica, *sidecar) {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, v int)")
	r.add("default", "item")
	courier := r.startSidecar()
	r.subscribe("{default}", false)
	r.insert(0)
	r.wait()
	return r, courier
}

// Subscriptions and nodes that come, change and go take effect by themselves
// while the sidecar runs.
func TestChangesWhileRunning(t *testing.T) {
	r, courier := startItem(t)
	r.target.Database(t, "other")
	r.target.Exec(t, "other", "CREATE TABLE item (id int PRIMARY KEY, v int)")

	r.onSource("SELECT courier.create_node('other', dsn => $1)", r.target.DSN("other"))
	r.subscribeItem("to_other", "other")
	r.insert(1)
	r.requireSoon("other", 1)
	r.requireSoon(appDatabase, 1)

	id := r.sourceValue("SELECT subscription_id FROM courier.subscription WHERE subscription_name = 'to_other'")
	r.onSource("SELECT courier.alter_subscription_disable('to_other')")
	r.requireNoShipper(id)
	r.insert(2)
	r.requireSoon(appDatabase, 2)
	require.Equal(t, "0", r.target.Value(t, "other", "SELECT count(*) FROM item WHERE id = 2"))
	r.onSource("SELECT courier.alter_subscription_enable('to_other')")
	r.requireSoon("other", 2)

	r.onBoth("CREATE TABLE added (id int PRIMARY KEY)")
	r.target.Exec(t, "other", "CREATE TABLE added (id int PRIMARY KEY)")
	r.add("default", "added")
	r.onSource("INSERT INTO added VALUES (1)")
	r.target.Eventually(t, "other", "SELECT count(*) FROM added", "1", changeBound)

	r.onSource("SELECT courier.drop_subscription('to_other')")
	r.requireNoShipper(id)
	r.onSource("SELECT courier.drop_node('other')")
	r.insert(3)
	r.requireSoon(appDatabase, 3)
	require.Equal(t, "0", r.target.Value(t, "other", "SELECT count(*) FROM item WHERE id = 3"))
	courier.stop()
}

// requireNoShipper waits until nobody holds the lease of a subscription.
func (r *replica) requireNoShipper(id string) {
	r.t.Helper()
	r.source.Eventually(r.t, appDatabase, `SELECT count(*) FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 2 AND classid = 'courier.subscription'::regclass AND objid = `+id, "0", changeBound)
}

// A connection string that is corrected is used at once, not when the pause
// between two tries, which has grown, is over.
func TestCorrectedConnectionString(t *testing.T) {
	t.Parallel()
	r, courier := startItem(t)
	r.onSource("SELECT courier.create_node('late', dsn => $1)", "host=127.0.0.1 port=1 user=postgres dbname=late")
	r.target.Database(t, "late")
	r.target.Exec(t, "late", "CREATE TABLE item (id int PRIMARY KEY, v int)")
	r.subscribeItem("to_late", "late")
	r.insert(1)
	r.source.Eventually(t, appDatabase, `SELECT state = 'retrying' AND next_retry_at - updated_at > '3 s'
		FROM courier.subscription_status WHERE subscription_name = 'to_late'`, "t", patience)
	r.onSource(fmt.Sprintf("ALTER SERVER courier_late OPTIONS (SET port '%d')", r.target.Port))
	r.requireSoon("late", 1)
	r.requireSoon(appDatabase, 1)
	courier.stop()
}

// A connection string that is changed while all is well is used from then on.
func TestChangedConnectionString(t *testing.T) {
	t.Parallel()
	r, courier := startItem(t)
	r.target.Database(t, "moved")
	r.target.Exec(t, "moved", "CREATE TABLE item (id int PRIMARY KEY, v int)")
	r.onSource("ALTER SERVER courier_" + targetNode + " OPTIONS (SET dbname 'moved')")
	changed := time.Now()
	for id := 1; r.target.Value(t, "moved", "SELECT count(*) FROM item") == "0"; id++ {
		require.Less(t, time.Since(changed), changeBound, "rows still go where they went before")
		r.insert(id)
	}
	courier.stop()
}
