package session_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

func connect(t *testing.T, dsn string) *session.PGX {
	s, err := session.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func TestPGX(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Name("session"))
	cluster.Exec(t, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	cluster.Exec(t, "postgres", "ALTER ROLE postgres SET DateStyle = 'German'")
	s := connect(t, cluster.DSN("postgres"))

	rows, err := s.Query(t.Context(), `SELECT 1::int, NULL::text, '\x00ff'::bytea, ''::text, '2024-05-01'::date, $1::text, $2::int8 + 1, $3::text`,
		"it's", []byte("41"), nil)
	require.NoError(t, err)
	require.Equal(t, []session.Row{{[]byte("1"), nil, {0, 0xff}, {}, []byte("2024-05-01"), []byte("it's"), []byte("42"), nil}}, rows,
		"bytea is raw, all else is text, whatever the role prefers")

	_, err = s.Query(t.Context(), "SELECT 1 / 0")
	var e *session.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, "22012", e.SQLState)
	require.Equal(t, "22012", session.SQLState(err))

	latin := connect(t, cluster.DSN("latin"))
	value, ok, err := session.Value(t.Context(), latin, `SELECT chr(228)`)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "\xe4", value, "text is passed through in the database's encoding")
}

func TestPinned(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Name("pinned"))
	cluster.Exec(t, "postgres", "CREATE TABLE t AS SELECT 1 AS v")
	s := connect(t, cluster.DSN("postgres"))
	count := func() string {
		value, _, err := session.Value(t.Context(), s, "SELECT count(*) FROM public.t")
		require.NoError(t, err)
		return value
	}
	require.NoError(t, s.Pinned(t.Context(), []string{"public.t"}, func() error {
		cluster.Exec(t, "postgres", "INSERT INTO t VALUES (2)")
		require.Equal(t, "2", count(), "locking takes no snapshot yet")
		cluster.Exec(t, "postgres", "INSERT INTO t VALUES (3)")
		require.Equal(t, "2", count(), "all queries see one moment")
		_, err := cluster.Connect(t, "postgres").Exec(t.Context(), "SET lock_timeout = '50ms'; ALTER TABLE t ALTER v TYPE int8")
		require.Error(t, err, "the table is locked against being rewritten")
		return nil
	}))
	require.Equal(t, "3", count())
	require.EqualError(t, s.Pinned(t.Context(), nil, func() error { return errors.New("given up") }), "given up")
	require.Equal(t, "3", count(), "the transaction has ended")
}

func TestConnectErrorsKeepThePassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"host=127.0.0.1 port=1 user=u password=topsecret dbname=x connect_timeout=2", "postgresql://u:topsecret@host:notaport/x", "password=topsecret nonsense"} {
		_, err := session.Connect(t.Context(), dsn)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "topsecret")
	}
}
