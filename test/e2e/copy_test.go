package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// copyTables are what testdata/copy_load.sql writes to.
const copyTables = `
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, filler text);
CREATE TABLE movement (account int, delta int, at timestamptz);
CREATE TABLE late (id int PRIMARY KEY, v int);
CREATE TABLE late_movement (id int, v int);`

// startCopy is startReplica with some rows on the source, under write load.
func startCopy(t *testing.T, duration time.Duration) (*replica, *load) {
	t.Helper()
	r := startReplica(t)
	r.onBoth(copyTables)
	r.onSource("INSERT INTO account SELECT i, 0, repeat('f', 80) FROM generate_series(1, 60000) i")
	r.onSource("INSERT INTO movement SELECT i, 0, now() FROM generate_series(1, 20000) i")
	r.onSource("INSERT INTO late SELECT i, 0 FROM generate_series(1, 20000) i")
	r.onSource("INSERT INTO late_movement SELECT i, 0 FROM generate_series(1, 20000) i")
	r.add("default", "account")
	r.addKeyless("movement")
	work := r.startLoad(duration, false, "-c", "6", "-j", "2", "-f", "testdata/copy_load.sql")
	eventually(t, "the load to begin", func() bool { return r.sourceValue("SELECT count(*) > 20000 FROM movement") == "t" })
	return r, work
}

// The rows there are, then what follows, while both are being written; nothing
// twice, nothing left out. Then a table more, the same way.
func TestCopyUnderLoad(t *testing.T) {
	r, work := startCopy(t, 10*time.Minute) // ended below
	r.subscribe("{default,log}", true)
	// slow enough for several snapshots
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": 1500}')`, subscription)
	courier := r.startSidecar()
	r.wait()
	r.onSource(`SELECT courier.alter_subscription_options($1, '{"copy_rate": null}')`, subscription)
	require.False(t, work.ended(), "the copy was not under load")

	r.add("default", "late")
	r.add("log", "late_movement")
	r.wait()
	require.False(t, work.ended(), "the second copy was not under load")
	work.abort()
	r.wait()
	r.requireEqual("account", "movement", "late", "late_movement")
	courier.stop()
}

// The same while the sidecar is killed in the middle of it.
func TestCopyInterrupted(t *testing.T) {
	r, work := startCopy(t, loadTime(t)/2)
	random := randomSource(randomSeed(t), 0)
	r.subscribe("{default,log}", true)
	for range 4 {
		courier := r.startSidecar()
		wait(t.Context(), between(random, 20*time.Millisecond, 500*time.Millisecond))
		courier.kill9()
	}
	r.add("default", "late")
	r.add("log", "late_movement")
	for range 4 {
		courier := r.startSidecar()
		wait(t.Context(), between(random, 20*time.Millisecond, 500*time.Millisecond))
		courier.kill9()
	}
	courier := r.startSidecar()
	work.wait()
	r.wait()
	r.requireEqual("account", "movement", "late", "late_movement")
	courier.stop()
}

// Without a copy exactly what commits after create_subscription arrives: nothing
// of a transaction that had committed before, everything of one that had not.
func TestWithoutCopy(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE log (at int)")
	r.add("default", "item")
	r.addKeyless("log")
	r.onSource("INSERT INTO item VALUES (1, 'before'), (2, 'before'); INSERT INTO log VALUES (1)")
	courier := r.startSidecar()
	r.subscribe("{default,log}", false)
	r.onSource("INSERT INTO item VALUES (3, 'after'); INSERT INTO log VALUES (2); DELETE FROM item WHERE id = 1")
	// the target does not have row 2: the source wins, so it gets it
	r.onSource("UPDATE item SET name = 'changed' WHERE id = 2")
	r.wait()
	require.Equal(t, [][]string{{"2", "changed"}, {"3", "after"}},
		r.target.Query(t, appDatabase, "SELECT id, name FROM item ORDER BY id"))
	require.Equal(t, [][]string{{"2"}}, r.target.Query(t, appDatabase, "SELECT at FROM log"))
	courier.stop()
}

// A table added to a subscribed set: what it holds is copied, once, even if the
// shipper ends right behind the copy, and its changes follow.
func TestCopyAddedTableOnce(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE log (at int, what text)")
	r.add("default", "item")
	r.addKeyless()
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.onSource("INSERT INTO log VALUES (0, 'before')")
	r.subscribe("{default,log}", true)
	r.ship()

	r.add("log", "log")
	r.onSource("INSERT INTO log VALUES (1, 'captured, and in the copy')")
	r.ship()
	r.requireEqual("item", "log")
	r.ship() // another shipper, which knows only what the target tells
	r.requireEqual("item", "log")
	r.onSource("INSERT INTO log VALUES (2, 'after'); UPDATE item SET name = 'two'")
	r.ship()
	r.requireEqual("item", "log")
}

// A node that is down when its subscription is created gets everything once it
// is up; meanwhile the status says what is wrong.
func TestTargetDownAtCreate(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.onSource("INSERT INTO item SELECT i, 'before' FROM generate_series(1, 100) i")
	r.add("default", "item")
	require.NoError(t, r.target.Stop(pgtest.Fast))
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.onSource("UPDATE item SET name = 'waiting' WHERE id > 50")
	r.source.Eventually(t, appDatabase, `SELECT state || ' ' || (last_error_sqlstate LIKE '08%') || ' ' || (last_error_hint <> '')
		|| ' ' || (next_retry_at IS NOT NULL) FROM courier.subscription_status`, "retrying true true true", patience)
	require.NoError(t, r.target.Start(t.Context()))
	r.onSource("DELETE FROM item WHERE id % 7 = 0")
	r.wait()
	r.requireEqual("item")
	require.Equal(t, "streaming", r.sourceValue("SELECT state FROM courier.subscription_status"))
	courier.stop()
}

// What commits while a subscription is disabled waits for it.
func TestDisableEnable(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE log (at int)")
	r.add("default", "item")
	r.addKeyless("log")
	courier := r.startSidecar()
	r.subscribe("{default,log}", true)
	r.onSource("INSERT INTO item VALUES (1, 'one'); INSERT INTO log VALUES (1)")
	r.wait()
	r.onSource("SELECT courier.alter_subscription_disable($1)", subscription)
	eventually(t, "the sidecar to let go of the subscription", func() bool {
		return strings.Contains(courier.log.String(), "subscription ended")
	})
	r.onSource("INSERT INTO item VALUES (2, 'two'); INSERT INTO log VALUES (2); UPDATE item SET name = 'changed' WHERE id = 1")
	require.Equal(t, "disabled", r.sourceValue("SELECT state FROM courier.subscription_status"))
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM log"))

	r.onSource("SELECT courier.alter_subscription_enable($1)", subscription)
	r.wait()
	r.requireEqual("item", "log")
	courier.stop()
}

// drop_subscription leaves the rows on the target and nothing of its own; what
// is written afterwards stays here.
func TestDropSubscription(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.onSource("INSERT INTO item VALUES (1, 'one')")
	r.add("default", "item")
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.wait()
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM courier_target.progress"))

	r.onSource("SELECT courier.drop_subscription($1)", subscription)
	r.onSource("INSERT INTO item VALUES (2, 'two')")
	eventually(t, "the sidecar to let go of the subscription", func() bool {
		return strings.Contains(courier.log.String(), "subscription ended")
	})
	courier.stop()
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM pg_namespace WHERE nspname = 'courier_target'"))
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM item"))
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!pg_courier%'"))
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.subscription_status"))
}
