package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Capture begins with locks on several tables. Whoever writes to them in another
// order must not be the one to give up.
func TestSubscribingIsInNoDeadlock(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onBoth("CREATE TABLE first (id int PRIMARY KEY, v int); CREATE TABLE second (id int PRIMARY KEY, v int)")
	r.onSource("INSERT INTO first VALUES (1, 0); INSERT INTO second VALUES (1, 0)")
	r.add("default", "first", "second")
	work := func(sql string) { // begins with the table that is locked last
		writer := r.source.Connect(t, appDatabase)
		_, err := writer.Exec(t.Context(), "BEGIN; UPDATE second SET v = v + 1")
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- r.source.Run(t.Context(), appDatabase, sql) }()
		eventually(t, "somebody to wait for the writer", func() bool {
			return r.sourceValue("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'second'::regclass") == "t"
		})
		_, err = writer.Exec(t.Context(), "UPDATE first SET v = v + 1; COMMIT")
		require.NoError(t, err, sql)
		require.NoError(t, <-done, sql)
	}
	work("SELECT courier.create_subscription('" + subscription + "', '" + targetNode + "', copy_data => true)")
	r.ship()
	r.requireEqual("first", "second")
	work("SELECT courier.drop_subscription('" + subscription + "')")
}
