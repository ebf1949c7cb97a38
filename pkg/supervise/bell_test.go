package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// TestBell: it rings for those who have asked, of what was committed since they
// last listened, and again when it has lost its session.
func TestBell(t *testing.T) {
	for name, preload := range map[string]bool{"preloaded": true, "not preloaded": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Start(t, pgtest.Preload(preload))
			cluster.Database(t, "source")
			cluster.Exec(t, "source", "CREATE EXTENSION pg_courier CASCADE")
			commit := func() { cluster.Query(t, "source", "SELECT courier.enqueue('a', 'b')") }
			const waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier bell' AND wait_event_type = 'Extension'"

			b := &bell{asked: make(chan struct{}, 1)}
			var output bytes.Buffer // complete after the bell has ended
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			rung := b.wait()
			go func() {
				defer close(ended)
				b.run(ctx, t.Context(), cluster.SocketDSN("source"), slog.New(slog.NewTextHandler(&output, nil)))
			}()
			<-rung
			require.Eventually(t, b.works.Load, waitLimit, tick, "the bell should work")

			for range 20 {
				rung = b.wait()
				commit() // nobody has asked yet
				b.ask()
				<-rung
			}
			rung = b.wait()
			b.ask()
			cluster.Eventually(t, "source", waiting, "1", waitLimit)
			commit()
			<-rung
			cluster.Eventually(t, "source", waiting, "0", waitLimit)

			rung = b.wait()
			cluster.Query(t, "source", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_courier bell'")
			b.ask()
			<-rung // there may have been something in between
			require.Eventually(t, b.works.Load, waitLimit, tick, "the bell should work again")
			b.ask()
			cluster.Eventually(t, "source", waiting, "1", waitLimit)

			cancel()
			<-ended
			require.Contains(t, output.String(), "polling")
			cluster.Eventually(t, "source", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_courier bell'", "0", waitLimit)
		})
	}
}
