package e2e

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// secret is in a row that is refused: no log may quote it.
const secret = "planted-secret-5e1f"

// letterReplica has a subscription of table item, whose price the target
// restricts, with the given policy.
func letterReplica(t *testing.T, policy string) *replica {
	r := startReplica(t)
	r.onSource("CREATE TABLE item (id int PRIMARY KEY, name text, price int)")
	r.onTarget("CREATE TABLE item (id int PRIMARY KEY, name text, price int CONSTRAINT cheap CHECK (price < 1000))")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.onSource("SELECT courier.alter_subscription_options($1, jsonb_build_object('on_error', $2::text))", subscription, policy)
	return r
}

// letters lists the states of the dead letters.
func (r *replica) letters() string {
	r.t.Helper()
	return r.sourceValue("SELECT coalesce(string_agg(state, ',' ORDER BY dead_letter_id), '') FROM courier.dead_letter")
}

func (r *replica) awaitLetters(states string) {
	r.t.Helper()
	eventually(r.t, "dead letters "+states, func() bool { return r.letters() == states })
}

// One transaction among ten thousand is refused: the others arrive, it is kept,
// edited, retried, and arrives.
func TestDeadLetterAmongTenThousand(t *testing.T) {
	r := letterReplica(t, "dead_letter")
	r.onSource(`DO $$ BEGIN
		FOR i IN 1..10000 LOOP
			INSERT INTO item VALUES (i, CASE i WHEN 4711 THEN '` + secret + `' END, CASE i WHEN 4711 THEN 5000 ELSE i % 1000 END);
			COMMIT;
		END LOOP;
	END $$`)
	s := r.startSidecar("--log-level", "debug")
	r.wait()
	require.Equal(t, "open", r.letters())
	require.Equal(t, "9999", r.targetValue("SELECT count(*) FROM item"))
	require.Equal(t, "item insert id=4711 23514 1", r.sourceValue(
		"SELECT concat_ws(' ', table_name, operation, key, error_sqlstate, change_count) FROM courier.dead_letter"))
	require.Equal(t, "1", r.sourceValue("SELECT dead_letters FROM courier.subscription_status"))

	r.onSource("SELECT courier.retry_dead_letter(dead_letter_id, jsonb_set(changes, '{0,new,price}', '\"999\"')) FROM courier.dead_letter")
	r.awaitLetters("applied")
	r.onSource("UPDATE item SET price = 999 WHERE id = 4711")
	r.wait()
	r.requireEqual("item")

	// a later transaction on a row of a letter is applied, and its value stays
	r.onSource("BEGIN; UPDATE item SET price = 2000 WHERE id IN (1, 2); COMMIT")
	r.onSource("UPDATE item SET price = 3000 WHERE id = 2")
	r.onSource("UPDATE item SET price = 11, name = 'later' WHERE id = 1")
	r.wait()
	r.awaitLetters("applied,open,open")
	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap")
	// two on one row go in their order
	conn := r.source.Connect(t, appDatabase)
	_, err := conn.Exec(context.Background(), "SELECT courier.retry_dead_letter(max(dead_letter_id)) FROM courier.dead_letter")
	require.ErrorContains(t, err, "has to wait for dead letter")
	r.onSource("SELECT courier.retry_dead_letter(dead_letter_id) FROM courier.dead_letter WHERE state = 'open' ORDER BY dead_letter_id")
	r.awaitLetters("applied,applied,applied")
	require.Equal(t, "1 1", r.sourceValue("SELECT concat_ws(' ', applied_changes, left_out_changes) FROM courier.dead_letter ORDER BY dead_letter_id OFFSET 1 LIMIT 1"))
	r.requireEqual("item")

	s.stop()
	require.NotContains(t, s.log.tail(1<<20), secret)
	require.NotContains(t, r.source.LogTail(1<<20), secret)
	require.NotContains(t, r.target.LogTail(1<<20), "Failing row")
}

// A stopped subscription's status row has all that is needed to get it going:
// the target is repaired, or the transaction passed by the statement in the hint.
func TestStoppedStatusRowSuffices(t *testing.T) {
	t.Parallel()
	r := letterReplica(t, "stop")
	r.startSidecar()
	r.onSource("INSERT INTO item VALUES (1, 'one', 1)")
	r.onSource("BEGIN; INSERT INTO item VALUES (2, 'two', 2), (3, 'three', 3000); COMMIT")
	r.onSource("INSERT INTO item VALUES (4, 'four', 4)")
	stopped := func() bool { return r.status()["state"] == "stopped" }
	eventually(t, "the stop", stopped)
	status := r.status()
	require.Equal(t, "23514", status["last_error_sqlstate"])
	require.Equal(t, "public.item", status["last_error_table"])
	require.Equal(t, "insert", status["last_error_operation"])
	require.Equal(t, "id=3", status["last_error_key"])
	require.Contains(t, status["last_error"], "cheap")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM item"))

	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap")
	eventually(t, "it to go on by itself", func() bool { return r.targetValue("SELECT count(*) FROM item") == "4" })
	r.requireEqual("item")
	require.Nil(t, r.status()["last_error_xid"])

	r.onTarget("ALTER TABLE item ADD CONSTRAINT cheap CHECK (price < 1000) NOT VALID")
	r.onSource("UPDATE item SET price = 5000 WHERE id = 1")
	r.onSource("INSERT INTO item VALUES (5, 'five', 5)")
	eventually(t, "the second stop", stopped)
	hint, _ := r.status()["last_error_hint"].(string)
	statement := regexp.MustCompile(`SELECT courier\.skip_transaction\([^)]*\)`).FindString(hint)
	require.NotEmpty(t, statement, "hint: %s", hint)
	// what a person has repaired there by hand is not overwritten
	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap")
	r.onTarget("ALTER TABLE item ADD CONSTRAINT cheap CHECK (price < 4000) NOT VALID")
	r.onSource(statement)
	r.awaitLetters("skipped")
	eventually(t, "what is behind", func() bool { return r.targetValue("SELECT count(*) FROM item") == "5" })
	require.Equal(t, "1", r.targetValue("SELECT price FROM item WHERE id = 1"))
	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap")
	r.onSource("SELECT courier.retry_dead_letter(dead_letter_id) FROM courier.dead_letter")
	r.awaitLetters("applied")
	r.requireEqual("item")
}

// hold keeps a transaction open on a cluster; the result ends it.
func hold(t *testing.T, conn *pgx.Conn, sql string) func() {
	t.Helper()
	_, err := conn.Exec(context.Background(), "BEGIN; "+sql)
	require.NoError(t, err)
	return func() {
		t.Helper()
		_, err := conn.Exec(context.Background(), "ROLLBACK")
		require.NoError(t, err)
	}
}

// waiters is how many sessions wait for a lock.
const waiters = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

// endSessions ends what a killed sidecar has left: its sessions on the source,
// and, if they still wait for a lock, those on the target.
func (r *replica) endSessions() {
	r.t.Helper()
	r.onSource("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_courier'")
	r.onTarget("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
	eventually(r.t, "the sessions' end", func() bool {
		return r.sourceValue("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier'") == "0" &&
			r.targetValue(waiters) == "0"
	})
}

// The sidecar is killed when a letter is stored and not yet passed: there is no
// letter, and the transaction is tried again.
func TestDeadLetterKilledBeforePassing(t *testing.T) {
	r := letterReplica(t, "dead_letter")
	r.ship()
	release := hold(t, r.target.Connect(t, appDatabase), "LOCK TABLE courier_target.letter IN SHARE MODE")
	s := r.startSidecar()
	r.onSource("BEGIN; INSERT INTO item VALUES (1, 'refused', 5000); SELECT courier.enqueue('once', ''); COMMIT")
	r.onSource("INSERT INTO item VALUES (2, 'behind', 2)")
	eventually(t, "the letter", func() bool { return r.letters() == "pending" && r.targetValue(waiters) == "1" })
	s.kill9()
	r.endSessions()
	release()
	require.Equal(t, "pending", r.letters())
	require.Equal(t, "0", r.targetValue("SELECT count(*) FROM courier_target.letter"))

	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap")
	r.startSidecar()
	r.wait()
	require.Empty(t, r.letters())
	r.requireEqual("item")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM courier_target.event"))
}

// The sidecar is killed when the target has passed a letter's transaction, and
// again when it has applied the letter, each time before the source knows.
func TestDeadLetterKilledBehindTarget(t *testing.T) {
	r := letterReplica(t, "dead_letter")
	r.ship()
	ctx := context.Background()
	source, target := r.source.Connect(t, appDatabase), r.target.Connect(t, appDatabase)
	killAfter := func(s *sidecar, state, block, done string) {
		t.Helper()
		free := hold(t, source, fmt.Sprintf("SELECT FROM courier.dead_letter_entry WHERE state = '%s' FOR UPDATE", state))
		_, err := target.Exec(ctx, "ROLLBACK") // of block
		require.NoError(t, err)
		eventually(t, "the target's commit", func() bool { return r.targetValue(done) == "1" })
		s.kill9()
		r.endSessions()
		free()
		require.Equal(t, state, r.letters(), "after %s", block)
	}

	lock := "LOCK TABLE courier_target.letter IN SHARE MODE"
	hold(t, target, lock)
	s := r.startSidecar()
	r.onSource("BEGIN; INSERT INTO item VALUES (1, 'refused', 5000); SELECT courier.enqueue('once', ''); COMMIT")
	r.onSource("INSERT INTO item VALUES (2, 'behind', 2)")
	eventually(t, "the letter", func() bool { return r.letters() == "pending" && r.targetValue(waiters) == "1" })
	killAfter(s, "pending", lock, "SELECT count(*) FROM courier_target.letter")
	r.onTarget("ALTER TABLE item DROP CONSTRAINT cheap") // it would be taken now
	s = r.startSidecar()
	r.awaitLetters("open")
	r.wait()
	require.Equal(t, "2", r.targetValue("SELECT string_agg(id::text, ',') FROM item"))

	lock = "LOCK TABLE item IN SHARE MODE"
	hold(t, target, lock)
	r.onSource("SELECT courier.retry_dead_letter(dead_letter_id) FROM courier.dead_letter")
	eventually(t, "the retry", func() bool { return r.targetValue(waiters) == "1" })
	killAfter(s, "retrying", lock, "SELECT count(*) FROM courier_target.letter WHERE applied IS NOT NULL")
	r.startSidecar()
	r.awaitLetters("applied")
	r.wait()
	r.requireEqual("item")
	require.Equal(t, "1", r.targetValue("SELECT count(*) FROM courier_target.event"))
	require.Equal(t, "2", r.sourceValue("SELECT applied_changes FROM courier.dead_letter"))
}
