package dblink

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// open starts a server with a source database, and a link from it to a target
// database of the same server.
func open(t *testing.T) (*pgtest.Cluster, *session.PGX, *Link) {
	cluster := pgtest.Start(t, pgtest.Name("dblink"))
	source := cluster.Database(t, "source")
	cluster.Database(t, "target")
	cluster.Exec(t, "source", "CREATE EXTENSION pg_courier CASCADE")
	cluster.Exec(t, "source", "SELECT courier.create_node('target', $1::text)", cluster.DSN("target"))
	cluster.Exec(t, "target", "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'bad'))")
	cluster.Exec(t, "target", `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'late' USING ERRCODE = '23505'; END $$`)
	cluster.Exec(t, "target", `CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (new.v = 'late') EXECUTE FUNCTION refuse()`)
	cluster.Exec(t, "target", "ALTER TABLE t ENABLE ALWAYS TRIGGER late")
	s, err := session.Connect(t.Context(), source)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	l, err := Open(t.Context(), s, "pg_courier_test", "target", cluster.Value(t, "source", "SELECT server_name FROM courier.node"))
	require.NoError(t, err)
	return cluster, s, l
}

func TestLink(t *testing.T) {
	cluster, s, l := open(t)
	require.True(t, l.Replica, "a superuser may set session_replication_role")

	// the session is free while statements are in flight
	require.NoError(t, l.Send(t.Context(), []byte(`INSERT INTO public.t VALUES (1, 'a'), (2, 'b'); SELECT pg_sleep(0.2)::text; UPDATE public.t SET v = 'c'`)))
	require.True(t, l.Busy())
	one, _, err := session.Value(t.Context(), s, "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, "1", one)
	outcome, err := l.Wait(t.Context())
	require.NoError(t, err)
	require.False(t, l.Busy())
	require.Nil(t, outcome.Err)
	require.Equal(t, []int64{2, 0, 2}, outcome.Counts)

	// an error names the statement, undoes the whole string, and shows no row
	require.NoError(t, l.Send(t.Context(), []byte(`DELETE FROM public.t; INSERT INTO public.t VALUES (3, 'bad')`)))
	outcome, err = l.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, outcome.Completed)
	require.Equal(t, "23514", outcome.Err.SQLState)
	require.Empty(t, outcome.Err.Detail)
	require.Equal(t, "2", cluster.Value(t, "target", "SELECT count(*) FROM t"))

	// one raised by the commit is reported as the last statement's
	require.NoError(t, l.Send(t.Context(), []byte(`SELECT 'x'; INSERT INTO public.t VALUES (3, 'late')`)))
	outcome, err = l.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, outcome.Completed)
	require.Equal(t, "23505", outcome.Err.SQLState)

	// after errors the session can still be cancelled
	_, err = s.Query(t.Context(), "SET statement_timeout = '100ms'")
	require.NoError(t, err)
	_, err = s.Query(t.Context(), "SELECT pg_sleep(30)")
	require.Equal(t, "57014", session.SQLState(err))
	_, err = s.Query(t.Context(), "SET statement_timeout = 0")
	require.NoError(t, err)

	require.Error(t, l.Send(t.Context(), nil), "an empty string has no result")
	rows, err := l.Query(t.Context(), "SELECT id, NULL, v FROM public.t ORDER BY id", 3)
	require.NoError(t, err)
	require.Equal(t, []session.Row{{[]byte("1"), nil, []byte("c")}, {[]byte("2"), nil, []byte("c")}}, rows)
	require.NoError(t, l.Close(t.Context()))
	require.NoError(t, l.Close(t.Context()), "closing again does no harm")
}

func TestLostConnectionIsUnknown(t *testing.T) {
	cluster, _, l := open(t)
	require.NoError(t, l.Send(t.Context(), []byte("SELECT pg_sleep(60)::text")))
	require.Eventually(t, func() bool {
		return cluster.Value(t, "target", `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = 'target' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()`) == "1"
	}, 10*time.Second, 10*time.Millisecond)
	outcome, err := l.Wait(t.Context())
	if err == nil {
		err = outcome.Err
	}
	require.Equal(t, Unknown, Classify(err), "%v", err)
}

func TestUnreachableNode(t *testing.T) {
	cluster, s, _ := open(t)
	cluster.Exec(t, "source", "SELECT courier.create_node('nowhere', 'host=127.0.0.1 port=1 dbname=x connect_timeout=2')")
	_, err := Open(t.Context(), s, "pg_courier_nowhere", "nowhere", "courier_nowhere")
	require.ErrorContains(t, err, "connect to node nowhere")
	require.Equal(t, Unknown, Classify(err))
}
