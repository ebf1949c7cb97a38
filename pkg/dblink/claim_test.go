package dblink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestClaim(t *testing.T) {
	cluster, s, first := open(t)
	cluster.Exec(t, "target", "CREATE SCHEMA courier_target; CREATE TABLE courier_target.progress (subscription uuid PRIMARY KEY, position text)")
	const key = "11111111-2222-3333-4444-555555555555"
	const row = "INSERT INTO courier_target.progress VALUES ('" + key + "', 'a')"
	server := cluster.Value(t, "source", "SELECT server_name FROM courier.node")
	next := func(name string) *Link {
		l, err := Open(t.Context(), s, name, "target", server)
		require.NoError(t, err)
		return l
	}
	alive := func(l *Link) string {
		return cluster.Value(t, "target", "SELECT count(*) FROM pg_stat_activity WHERE pid = "+l.pid)
	}

	// nothing is there yet, and nobody is about to make it
	require.NoError(t, first.Claim(t.Context(), key))
	second := next("pg_courier_second")
	require.NoError(t, second.Claim(t.Context(), key))
	require.Equal(t, "1", alive(first), "one that is not in the way is left alone")

	// one is about to make it
	require.NoError(t, first.Exec(t.Context(), "BEGIN; "+row))
	require.NoError(t, second.Claim(t.Context(), key))
	require.Equal(t, "0", alive(first))
	require.NoError(t, second.Exec(t.Context(), row), "and has left nothing")

	// one holds the row
	require.NoError(t, second.Exec(t.Context(), "BEGIN; UPDATE courier_target.progress SET position = 'b'"))
	third := next("pg_courier_third")
	require.NoError(t, third.Claim(t.Context(), key))
	require.Equal(t, "0", alive(second))
	require.Equal(t, "a", cluster.Value(t, "target", "SELECT position FROM courier_target.progress"))
	require.Equal(t, "pg_courier "+key, cluster.Value(t, "target", "SELECT application_name FROM pg_stat_activity WHERE pid = "+third.pid))

	// somebody else does, or the link of another subscription
	locker := cluster.Connect(t, "target")
	_, err := locker.Exec(t.Context(), "BEGIN; SELECT FROM courier_target.progress FOR UPDATE")
	require.NoError(t, err)
	err = next("pg_courier_fourth").Claim(t.Context(), key)
	require.Equal(t, "55P03", session.SQLState(err), "%v", err)
	require.Equal(t, Transient, Classify(err))
	require.NoError(t, locker.Ping(t.Context()))
	_, err = locker.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}
