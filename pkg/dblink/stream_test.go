package dblink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestStream(t *testing.T) {
	cluster, _, l := open(t)
	for _, database := range []string{"source", "target"} {
		cluster.Exec(t, database, "CREATE TABLE kinds ("+kinds+", a text[])")
	}
	cluster.Exec(t, "source", fillKinds)
	cluster.Exec(t, "source", `INSERT INTO kinds (id, t, a) VALUES (5, E'\\N', ARRAY[E'a\tb', E'c\nd', E'\\', NULL]),
		(6, E'\t\r\n\\.\n', '{}'), (7, E'\\.', NULL), (8, 'ä', '{"x y",""}')`)
	s, err := l.OpenStream(t.Context(), "00000000-0000-0000-0000-000000000001", false)
	require.NoError(t, err)
	const begin = "BEGIN; COPY public.kinds (id, b, i2, i8, o, f4, f8, n, d, tm, ts, tz, u, t, a) FROM STDIN"
	rows := &Rows{Query: "SELECT ctid, * FROM ONLY public.kinds WHERE ctid >= $1 AND ctid < $2", First: "(0,0)", Last: "(4294967295,0)", Most: 1, Largest: 1000}
	copyAll := func() (Copied, int64, error) {
		require.NoError(t, s.Run(t.Context(), begin))
		var all Copied
		next := *rows
		for {
			sent, err := s.Copy(t.Context(), &next)
			require.NoError(t, err)
			require.LessOrEqual(t, sent.Rows, int64(1))
			all.Rows, all.Large, next.First = all.Rows+sent.Rows, sent.Large, sent.Next
			if sent.Next == "" || sent.Large {
				break
			}
		}
		require.NoError(t, s.End(t.Context()))
		taken, err := s.Take(t.Context())
		return all, taken, err
	}

	sent, taken, err := copyAll()
	require.NoError(t, err)
	require.Equal(t, int64(8), taken)
	require.Equal(t, int64(8), sent.Rows)
	require.False(t, sent.Large)
	err = s.Run(t.Context(), "COMMIT")
	require.NoError(t, err)
	const all = "SELECT string_agg(k::text, E'\n' ORDER BY id) FROM kinds k"
	require.Equal(t, cluster.Value(t, "source", all), cluster.Value(t, "target", all))

	// what the node has is an error, which tells no value, and the stream goes on
	_, _, err = copyAll()
	require.Equal(t, "23505", session.SQLState(err))
	err = s.Run(t.Context(), "ROLLBACK; TRUNCATE public.kinds")
	require.NoError(t, err)
	cluster.Exec(t, "target", "ALTER TABLE kinds ADD CHECK (t <> 'ä')")
	_, _, err = copyAll()
	require.Equal(t, "23514", session.SQLState(err))
	require.NotContains(t, err.Error(), "ä")
	err = s.Run(t.Context(), "ROLLBACK; ALTER TABLE public.kinds DROP CONSTRAINT kinds_t_check")
	require.NoError(t, err)

	// a row that is too large is not sent, nor those behind it
	cluster.Exec(t, "source", "UPDATE kinds SET t = repeat('x', 2000) WHERE id = 3")
	sent, taken, err = copyAll()
	require.NoError(t, err)
	require.True(t, sent.Large)
	require.Equal(t, int64(7), taken)
	err = s.Run(t.Context(), "ROLLBACK")
	require.NoError(t, err)

	// its session is a link's
	require.Equal(t, "1", cluster.Value(t, "target", `SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'pg_courier 00000000-0000-0000-0000-000000000001'`))
	require.NoError(t, s.Close(t.Context()))
	err = s.Run(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "is not open")

	// one that the node ends
	s, err = l.OpenStream(t.Context(), "x", false)
	require.NoError(t, err)
	err = s.Run(t.Context(), "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
	require.Error(t, err)
}
