package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// ddlModes are the two ways in which DDL is sent: by a call, and by event triggers.
var ddlModes = map[string]func(r *replica, conn *pgx.Conn, command string){
	"replicate_ddl": func(r *replica, conn *pgx.Conn, command string) {
		_, err := conn.Exec(context.Background(), "SELECT courier.replicate_ddl($1)", command)
		require.NoError(r.t, err, command)
	},
	"auto": func(r *replica, conn *pgx.Conn, command string) {
		_, err := conn.Exec(context.Background(), command, pgx.QueryExecModeSimpleProtocol)
		require.NoError(r.t, err, command)
	},
}

// startDDL is a pair with the tables of the load, whose set replicates DDL in the
// given mode.
func startDDL(t *testing.T, mode string) *replica {
	r := startReplica(t)
	r.onBoth(faultTables)
	r.onSource(workFunction)
	if mode == "auto" {
		r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	}
	r.add("default", "item")
	r.addKeyless("movement")
	if mode == "auto" {
		r.onSource("SELECT courier.replication_set_add_schema('default', 'public')")
	}
	r.subscribe("{default,log}", false)
	return r
}

// FAULTS: DDL mid-flight; kill -9 of the sidecar at any step. Commands are in the
// middle of transactions, under load, and the sidecar is killed again and again: each command arrives once, at its place, and the tables are equal.
func TestDDLUnderLoad(t *testing.T) {
	for mode, run := range ddlModes {
		t.Run(mode, func(t *testing.T) {
			r := startDDL(t, mode)
			courier := r.startSidecar()
			load := r.startPace(appDatabase, 2*time.Millisecond, "SELECT work($1)", 1)
			conn := r.source.Connect(t, appDatabase)
			exec := func(sql string) {
				_, err := conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol)
				require.NoError(t, err, sql)
			}
			for i := range 6 {
				exec("BEGIN")
				exec(fmt.Sprintf("INSERT INTO item VALUES (%d, 0, 'before')", -1000*i-1001))
				run(r, conn, fmt.Sprintf("ALTER TABLE item ADD COLUMN c%d int DEFAULT %d", i, i))
				exec(fmt.Sprintf("UPDATE item SET c%d = 100 WHERE id < 0", i))
				run(r, conn, fmt.Sprintf("CREATE TABLE made_%d (id int PRIMARY KEY, item bigint REFERENCES item)", i))
				exec("COMMIT")
				if mode != "auto" {
					r.add("default", fmt.Sprintf("made_%d", i))
				}
				exec("BEGIN")
				exec(fmt.Sprintf("INSERT INTO made_%d VALUES (1, %d)", i, -1000*i-1001))
				run(r, conn, fmt.Sprintf("ALTER TABLE item ALTER COLUMN c%d TYPE text USING 'was ' || c%d", i, i))
				exec(fmt.Sprintf("INSERT INTO item (id, v, c%d) VALUES (%d, 1, 'text')", i, -1000*i-1002))
				run(r, conn, fmt.Sprintf("ALTER TABLE item RENAME COLUMN c%d TO d%d", i, i))
				run(r, conn, fmt.Sprintf("CREATE INDEX ON item (d%d)", i))
				exec("COMMIT")
				if i > 0 {
					run(r, conn, fmt.Sprintf("ALTER TABLE item DROP COLUMN d%d; DROP TABLE made_%d", i-1, i-1))
				}
				if i%2 == 1 { // else it dies before it has done much
					eventually(t, "the round on the node", func() bool {
						return r.targetValue(fmt.Sprintf("SELECT count(*) FROM pg_class WHERE relname = 'made_%d'", i)) == "1"
					})
				}
				courier.kill9()
				courier = r.startSidecar()
			}
			load.stop()
			r.wait()
			r.requireEqual("item", "movement", "made_5")
			require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.compare_schemas('eu')"))
			require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dead_letter"))
			require.Equal(t, "made_5", r.targetValue("SELECT string_agg(relname, ',') FROM pg_class WHERE relname LIKE 'made\\__'"))
			courier.stop()
		})
	}
}

// FAULTS: kill -9 of the sidecar at any step: while the node runs a command, and again when the node has
// committed one and the source does not know: ADD COLUMN a second time would fail.
func TestDDLKilledInFlight(t *testing.T) {
	r := startDDL(t, "auto")
	ctx := context.Background()
	source, target := r.source.Connect(t, appDatabase), r.target.Connect(t, appDatabase)
	r.onSource("INSERT INTO item VALUES (1, 0, 'old')")
	r.ship()

	release := hold(t, target, "LOCK TABLE item IN ROW EXCLUSIVE MODE")
	courier := r.startSidecar()
	r.onSource("BEGIN; INSERT INTO item VALUES (2, 0, 'before'); ALTER TABLE item ADD COLUMN a int; " +
		"INSERT INTO item VALUES (3, 0, 'behind', 1); COMMIT")
	eventually(t, "the command on the node", func() bool { return r.targetValue(waiters) == "1" })
	courier.kill9()
	r.endSessions()
	release()
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM item"), "nothing of the transaction stays")

	free := hold(t, source, "SELECT FROM courier.subscription_state FOR UPDATE")
	courier = r.startSidecar()
	eventually(t, "the commit on the node", func() bool { return r.targetValue("SELECT count(*) FROM item") == "3" })
	courier.kill9()
	r.endSessions()
	free()
	courier = r.startSidecar()
	r.onSource("INSERT INTO item VALUES (4, 0, 'later', 2)")
	r.wait()
	r.requireEqual("item")
	courier.stop()
	_, err := target.Exec(ctx, "SELECT a FROM item")
	require.NoError(t, err)
}

// FAULTS: DDL mid-flight. A command that the node refuses stops the subscription there, with the reason;
// it goes on by itself after the repair, or when a person passes the transaction.
func TestDDLRefusedByNode(t *testing.T) {
	r := startDDL(t, "auto")
	courier := r.startSidecar()
	stopped := func() map[string]any {
		t.Helper()
		eventually(t, "the stop", func() bool { return r.status()["state"] == "stopped" })
		status := r.status()
		require.Equal(t, "ddl", status["last_error_operation"])
		require.Contains(t, status["last_error_hint"], "skip_transaction")
		return status
	}
	r.onTarget("ALTER TABLE item ADD COLUMN taken text")
	r.onSource("INSERT INTO item VALUES (1, 0, 'before')")
	r.onSource("ALTER TABLE item ADD COLUMN taken int")
	r.onSource("INSERT INTO item VALUES (2, 0, 'behind', 7)")
	status := stopped()
	require.Equal(t, "42701", status["last_error_sqlstate"])
	require.Equal(t, "ALTER TABLE item ADD COLUMN taken int", status["last_error_key"])
	eventually(t, "what is before it", func() bool { return r.targetValue("SELECT count(*) FROM item") == "1" })
	r.onTarget("ALTER TABLE item DROP COLUMN taken")
	eventually(t, "what is behind it", func() bool { return r.targetValue("SELECT count(*) FROM item") == "2" })
	r.wait()
	r.requireEqual("item")

	r.onTarget("ALTER TABLE item ADD COLUMN other int")
	r.onSource("ALTER TABLE item ADD COLUMN other int")
	r.onSource("INSERT INTO item VALUES (3, 0, 'behind', 7, 8)")
	status = stopped()
	r.onSource(fmt.Sprintf("SELECT courier.skip_transaction('%s', '%v')", subscription, status["last_error_xid"]))
	eventually(t, "what is behind it", func() bool { return r.targetValue("SELECT count(*) FROM item") == "3" })
	r.wait()
	r.requireEqual("item")
	require.Equal(t, "skipped", r.sourceValue("SELECT state FROM courier.dead_letter"))
	courier.stop()
}

// What the subscription's sets replicate between its creation and its copy is on
// the node before the copy: the node was down.
func TestDDLBeforeTheCopy(t *testing.T) {
	r := startReplica(t)
	r.onBoth(faultTables)
	r.onSource("INSERT INTO item SELECT i, i, 'first' FROM generate_series(1, 100) i")
	r.add("default", "item")
	r.subscribe("{default}", true)
	r.onSource("SELECT courier.replicate_ddl('ALTER TABLE item ADD COLUMN more int DEFAULT 5; CREATE INDEX item_more ON item (more)')")
	r.onSource("INSERT INTO item VALUES (101, 0, 'second', 6)")
	r.onSource("SELECT courier.enqueue('early', 'x')")
	courier := r.startSidecar()
	r.wait()
	r.requireEqual("item")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM pg_class WHERE relname = 'item_more'"))
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM courier_target.event"))
	// a table that comes later is created by DDL before it is copied, too
	r.onSource("SELECT courier.replicate_ddl('CREATE TABLE later (id int PRIMARY KEY)')")
	r.onSource("INSERT INTO later SELECT generate_series(1, 50)")
	r.add("default", "later")
	r.onSource("INSERT INTO later VALUES (51)")
	r.wait()
	r.requireEqual("item", "later")
	courier.stop()
}

// FAULTS: DROP TABLE / DROP SCHEMA / DROP EXTENSION with live subscriptions. What
// was captured before a drop arrives; nothing is left on the source, and the sidecar
// waits for the extension to come back.
func TestDropWithLiveSubscription(t *testing.T) {
	r := startDDL(t, "none")
	r.onBoth("CREATE SCHEMA gone; CREATE TABLE gone.one (id int PRIMARY KEY); CREATE TABLE gone.two (id int PRIMARY KEY)")
	r.add("default", "gone.one", "gone.two")
	courier := r.startSidecar()
	load := r.startPace(appDatabase, 2*time.Millisecond, "INSERT INTO movement VALUES ($1, 1)", 1)
	eventually(t, "rows", func() bool { return r.targetValue("SELECT count(*) FROM movement") != "0" })
	last := load.stop()
	r.onSource("DROP TABLE movement")
	eventually(t, "the rows before the drop", func() bool {
		return r.targetValue("SELECT count(*) FROM movement") == fmt.Sprint(last)
	})
	r.onSource("INSERT INTO gone.one VALUES (1); INSERT INTO gone.two VALUES (1), (2); DELETE FROM gone.two WHERE id = 1")
	r.onSource("DROP SCHEMA gone CASCADE")
	r.onSource("INSERT INTO item VALUES (1, 0, 'still flows')")
	r.wait()
	require.Equal(t, "1 2", r.targetValue("SELECT concat_ws(' ', (SELECT string_agg(id::text, ',') FROM gone.one), (SELECT string_agg(id::text, ',') FROM gone.two))"))
	require.Equal(t, "item", r.sourceValue("SELECT string_agg(relation::text, ',') FROM courier.replication_set_table"))
	r.requireEqual("item")
	require.Equal(t, "3", r.sourceValue("SELECT count(*) FROM courier.dropped_table"), "a restored node would need them")
	r.onSource("UPDATE courier.queue_current SET since = now() - interval '1 day'")
	eventually(t, "the segment emptied", func() bool { return r.sourceValue("SELECT truncations FROM courier.queue_current") == "1" })
	r.onSource("INSERT INTO item VALUES (3, 0, 'the queue has nothing else')")
	eventually(t, "the dropped tables to be forgotten", func() bool {
		return r.sourceValue("SELECT count(*) FROM courier.dropped_table") == "0"
	})
	r.onSource("DROP EXTENSION pg_courier")
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_foreign_server"))
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"))
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_event_trigger"))
	r.onSource("INSERT INTO item VALUES (2, 0, 'on its own')")
	eventually(t, "the sidecar to notice", func() bool { return strings.Contains(courier.log.String(), "extension") })
	courier.stop()
}

// A table that DDL has made waits for its copy when it is truncated together with the
// one that it refers to.
func TestTruncateWithTableToBeCopied(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE parent (id int PRIMARY KEY)")
	r.onSource("SELECT courier.alter_replication_set('default', ddl => 'auto')")
	r.onSource("SELECT courier.replication_set_add_schema('default', 'public')")
	r.add("default", "parent")
	r.subscribe("{default}", true)
	r.onSource("INSERT INTO parent VALUES (1), (2)")
	r.ship()
	r.onSource("CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent); INSERT INTO child VALUES (1, 1)")
	r.onSource("TRUNCATE parent CASCADE")
	r.onSource("INSERT INTO parent VALUES (3); INSERT INTO child VALUES (3, 3)")
	r.ship()
	r.requireEqual("parent", "child")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM child"))
}
