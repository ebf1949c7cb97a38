package supervise

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// Whoever asks for the states does so while the control session changes them;
// only the race detector sees a lock that is missing.
func TestSnapshotWhileNodesChange(t *testing.T) {
	d := newDatabase(&Config{Log: slog.New(slog.DiscardHandler)}, Database{Name: "app"})
	l := newLoop(d, ship.Assignment{ID: 1, Name: "to_eu", Node: "eu"})
	d.loops[l.name] = l

	var group sync.WaitGroup
	group.Go(func() {
		for range 100 {
			l.setNode("us")
		}
	})
	for range 100 {
		require.Len(t, d.snapshot().Subscriptions, 1)
	}
	group.Wait()
	require.Equal(t, "us", d.snapshot().Subscriptions[0].Node)
}
