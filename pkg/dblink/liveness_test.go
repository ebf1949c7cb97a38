package dblink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// short bounds, in the same proportion as the usual ones.
var short = bounds{connect: time.Second, look: 500 * time.Millisecond, silence: time.Second}

// prompt is long enough for a loaded machine to give a link up, and much shorter
// than what would end it otherwise.
const prompt = 10 * time.Second

// network is a node behind a proxy.
type network struct {
	*testing.T
	cluster *pgtest.Cluster
	source  *session.PGX
	proxy   *proxy
}

func startNetwork(t *testing.T) *network {
	cluster, s, _ := open(t)
	p := startProxy(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port))
	cluster.Exec(t, "source", "SELECT courier.create_node('far', $1::text)", fmt.Sprintf("%s port=%d", cluster.DSN("target"), p.port()))
	return &network{t, cluster, s, p}
}

// link opens a link through the proxy as it should be.
func (n *network) link(t *testing.T) *Link {
	n.proxy.behave(0, 0)
	l, err := Open(t.Context(), n.source, "pg_courier_far", "far", "courier_far")
	require.NoError(t, err)
	require.NotEmpty(t, l.pid)
	l.bounds = short
	return l
}

// cancel cancels what a backend of the source does until it has ended, and
// returns its error: a cancel that comes between two messages is lost.
func (n *network) cancel(t *testing.T, pid string, done <-chan error) error {
	deadline := time.After(prompt)
	for {
		n.cluster.Exec(t, "source", "SELECT pg_cancel_backend("+pid+")")
		select {
		case err := <-done:
			return err
		case <-deadline:
			t.Fatal("it can't be cancelled")
		case <-time.After(time.Second):
		}
	}
}

// requireGivenUp checks an error of a link that was given up.
func requireGivenUp(t *testing.T, err error, started time.Time) {
	t.Helper()
	require.ErrorContains(t, err, "nothing was heard of node far for")
	require.Less(t, time.Since(started), prompt)
	var db *session.Error
	require.True(t, errors.As(err, &db))
	require.Equal(t, "08006", db.SQLState)
	require.NotEmpty(t, db.Hint)
	require.Equal(t, Unknown, Classify(err))
}

// FAULTS: partition, half-open TCP, slow target.
func TestBadNetwork(t *testing.T) {
	n := startNetwork(t)

	t.Run("half-open, the node can be reached", func(t *testing.T) {
		l := n.link(t)
		n.proxy.behave(n.proxy.present(), 0)
		started := time.Now()
		require.NoError(t, l.Send(t.Context(), []byte("SELECT 1")))
		_, err := l.Wait(t.Context())
		requireGivenUp(t, err, started)
		require.ErrorContains(t, err, "its backend waits")
		_, err = l.Query(t.Context(), "SELECT 1", 1)
		require.Error(t, err, "it is closed")
		require.NoError(t, l.Close(t.Context()))
		n.cluster.Eventually(t, "source", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%remote_wait%' AND state = 'active' AND pid <> pg_backend_pid()", "0", prompt)
	})

	t.Run("half-open during a query", func(t *testing.T) {
		l := n.link(t)
		n.proxy.behave(n.proxy.present(), 0)
		started := time.Now()
		_, err := l.Query(t.Context(), "SELECT 1", 1)
		requireGivenUp(t, err, started)
	})

	t.Run("the answer is lost", func(t *testing.T) {
		l := n.link(t)
		require.NoError(t, l.Send(t.Context(), []byte("SELECT pg_sleep(1)::text")))
		n.cluster.Eventually(t, "target", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = "+l.pid, "1", prompt)
		n.proxy.behave(n.proxy.present(), 0)
		started := time.Now()
		_, err := l.Wait(t.Context())
		requireGivenUp(t, err, started)
	})

	t.Run("blackhole", func(t *testing.T) {
		l := n.link(t)
		n.proxy.behave(everything, 0)
		started := time.Now()
		require.NoError(t, l.Send(t.Context(), []byte("SELECT 1")))
		_, err := l.Wait(t.Context())
		requireGivenUp(t, err, started)
		require.ErrorContains(t, err, "does not answer on another connection")
	})

	t.Run("half-open in the rows of a stream, and at their end", func(t *testing.T) {
		for _, part := range []string{"rows", "end"} {
			l := n.link(t)
			s, err := l.OpenStream(t.Context(), "x", false)
			require.NoError(t, err)
			require.NoError(t, s.Run(t.Context(), "CREATE TEMP TABLE filled (t text); COPY filled FROM STDIN"))
			n.proxy.behave(n.proxy.present(), 0)
			started := time.Now()
			rows := &Rows{Query: "SELECT '(0,1)'::tid, repeat('x', 1000) FROM generate_series(1, 50000) WHERE '(0,1)'::tid BETWEEN $1 AND $2",
				First: "(0,0)", Last: "(9,0)", Most: 100 << 20, Largest: 1 << 20}
			if part == "end" {
				rows.Query += " LIMIT 1"
			}
			_, err = s.Copy(t.Context(), rows)
			require.NoError(t, err, "it does not wait")
			if part == "rows" {
				_, err = s.Copy(t.Context(), rows)
			} else {
				require.NoError(t, s.End(t.Context()))
				_, err = s.Take(t.Context())
			}
			requireGivenUp(t, err, started)
			require.NoError(t, s.Close(t.Context()))
		}
	})

	t.Run("blackhole that ends in time", func(t *testing.T) {
		l := n.link(t)
		l.bounds.silence = time.Minute
		n.proxy.behave(everything, 0)
		require.NoError(t, l.Send(t.Context(), []byte("SELECT 7")))
		time.AfterFunc(2*short.look, func() { n.proxy.behave(0, 0) })
		outcome, err := l.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, "7", outcome.Value)
	})

	large := func(size int) []byte { return []byte("SELECT length('" + strings.Repeat("x", size) + "')::text") }

	t.Run("the node takes nothing of a large command", func(t *testing.T) {
		l := n.link(t)
		n.proxy.behave(everything, 0)
		started := time.Now()
		err := l.Send(t.Context(), large(64<<20))
		requireGivenUp(t, err, started)
		require.ErrorContains(t, err, "takes nothing")
		require.False(t, l.Busy())
	})

	t.Run("a send is cancelled", func(t *testing.T) {
		l := n.link(t)
		l.bounds.silence = time.Hour
		n.proxy.behave(everything, 0)
		pid, _, err := session.Value(t.Context(), n.source, "SELECT pg_backend_pid()")
		require.NoError(t, err)
		sent := make(chan error, 1)
		go func() { sent <- l.Send(t.Context(), large(64<<20)) }()
		require.Equal(t, "57014", session.SQLState(n.cancel(t, pid, sent)))
	})

	t.Run("slow, but bytes flow", func(t *testing.T) {
		l := n.link(t)
		l.bounds.silence = 2 * time.Second
		n.proxy.behave(0, 400<<10)
		require.NoError(t, l.Send(t.Context(), large(3<<20)))
		outcome, err := l.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(3<<20), outcome.Value)
		require.Positive(t, l.pace)
	})

	t.Run("the node works long", func(t *testing.T) {
		l := n.link(t)
		require.NoError(t, l.Send(t.Context(), []byte("SELECT pg_sleep(4)::text")))
		_, err := l.Wait(t.Context())
		require.NoError(t, err)
	})

	t.Run("the node waits for a lock", func(t *testing.T) {
		l := n.link(t)
		var log bytes.Buffer
		l.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		locker := n.cluster.Connect(t, "target")
		_, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE t")
		require.NoError(t, err)
		require.NoError(t, l.Send(t.Context(), []byte("INSERT INTO public.t VALUES (77, 'x')")))
		released := make(chan error, 1)
		time.AfterFunc(3*short.silence, func() {
			_, err := locker.Exec(context.Background(), "ROLLBACK")
			released <- err
		})
		outcome, err := l.Wait(t.Context())
		require.NoError(t, err)
		require.Nil(t, outcome.Err)
		require.NoError(t, <-released)
		require.Contains(t, log.String(), fmt.Sprintf("blocked_by=%d", locker.PgConn().PID()))
		require.Contains(t, log.String(), "RowExclusiveLock relation t")
	})

	t.Run("reset", func(t *testing.T) {
		l := n.link(t)
		require.NoError(t, l.Send(t.Context(), []byte("SELECT pg_sleep(60)::text")))
		started := time.Now()
		time.AfterFunc(short.look, n.proxy.reset)
		outcome, err := l.Wait(t.Context())
		if err == nil {
			require.NotNil(t, outcome.Err)
			err = outcome.Err
		}
		require.Equal(t, Unknown, Classify(err), "%v", err)
		require.Less(t, time.Since(started), prompt)
	})

	t.Run("connecting is bounded and can be cancelled", func(t *testing.T) {
		l := n.link(t)
		n.proxy.behave(everything, 0)
		started := time.Now()
		err := l.connect(t.Context())
		require.Equal(t, "08001", session.SQLState(err), "%v", err)
		require.Less(t, time.Since(started), prompt)

		l.bounds.connect = time.Hour
		pid, _, err := session.Value(t.Context(), n.source, "SELECT pg_backend_pid()")
		require.NoError(t, err)
		connected := make(chan error, 1)
		go func() { connected <- l.connect(t.Context()) }()
		require.Equal(t, "57014", session.SQLState(n.cancel(t, pid, connected)))
	})

	// the session is none the worse for all that
	l := n.link(t)
	rows, err := l.Query(t.Context(), "SELECT 1 WHERE false", 1)
	require.NoError(t, err)
	require.Empty(t, rows)
	_, err = l.Query(t.Context(), "SELECT 1/0", 1)
	require.Equal(t, "22012", session.SQLState(err))
	rows, err = l.Query(t.Context(), "SELECT a, 'b' FROM pg_catalog.generate_series(1, 3) AS a", 2)
	require.NoError(t, err)
	require.Len(t, rows, 3)
}
