package session_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// prompt is how long a session with a short limit may take to give up, on a
// loaded machine.
const prompt = 10 * time.Second

// FAULTS: partition, half-open TCP, on the way to the source.
func TestSilentServer(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Name("silent"))
	p := faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port))
	dsn := fmt.Sprintf("%s port=%d", cluster.DSN("postgres"), p.Port())
	s := connect(t, dsn)

	settings, _, err := session.Value(t.Context(), s, `SELECT concat_ws(' ', current_setting('tcp_user_timeout'),
		current_setting('tcp_keepalives_idle'), current_setting('client_connection_check_interval'), current_setting('application_name'))`)
	require.NoError(t, err)
	require.Equal(t, "15000 5 1s pg_courier", settings, "the server notices a client that has vanished")

	// as long as bytes come the limit does not count
	limited := session.WithLimit(t.Context(), 500*time.Millisecond)
	p.Bandwidth(50_000)
	started := time.Now()
	rows, err := s.Query(limited, "SELECT repeat('x', 1024) FROM generate_series(1, 80)")
	require.NoError(t, err)
	require.Len(t, rows, 80)
	require.Greater(t, time.Since(started), time.Second)
	p.Restore()

	p.HalfOpen()
	started = time.Now()
	_, err = s.Query(limited, "SELECT 1")
	require.ErrorContains(t, err, "has not answered for 500ms")
	require.Empty(t, session.SQLState(err))
	require.NotErrorIs(t, err, context.Canceled, "nobody asked for it")
	require.True(t, s.Closed())
	_, err = s.Query(limited, "SELECT 1")
	require.Error(t, err)
	s.Close(t.Context())
	require.Less(t, time.Since(started), prompt, "nobody waits for the dead server")

	started = time.Now()
	_, err = session.Connect(t.Context(), dsn+" connect_timeout=1")
	require.ErrorContains(t, err, "connect to 127.0.0.1")
	require.Less(t, time.Since(started), prompt)
}

// A statement that takes longer than the limit ends on the server too.
func TestLimitEndsTheStatement(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Name("limit"))
	s := connect(t, cluster.DSN("postgres"))
	_, err := s.Query(session.WithLimit(t.Context(), 300*time.Millisecond), "SELECT pg_sleep(300)")
	require.ErrorContains(t, err, "has not answered")
	cluster.Eventually(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND state = 'active' AND pid <> pg_backend_pid()", "0", prompt)
}
