package supervise

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBudgetServesInTurn(t *testing.T) {
	t.Parallel()
	var b budget
	b.setLimit(1, 1)
	require.True(t, b.try())
	require.False(t, b.try(), "the limit is one")
	require.False(t, b.pressed())

	served := make(chan int)
	for i := range 2 {
		waiting := len(b.waiting)
		go func() {
			if b.acquire(context.Background()) {
				served <- i
			}
		}()
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.waiting) > waiting
		}, waitLimit, tick)
	}
	require.True(t, b.pressed())
	for i := range 2 {
		b.release()
		require.False(t, b.try(), "who waits comes first")
		require.Equal(t, i, <-served)
	}
	b.release()
	require.True(t, b.try())
}

func TestBudgetOfTheImpatient(t *testing.T) {
	t.Parallel()
	var b budget
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 { // the limit is raised while it gives up
		b.setLimit(0, 1)
		done := make(chan bool)
		go func() { done <- b.acquire(ctx) }()
		b.setLimit(1, 1)
		if <-done {
			b.release()
		}
		require.Zero(t, b.used)
		require.Empty(t, b.waiting)
	}
}

func TestBudgetOfSecondSessions(t *testing.T) {
	t.Parallel()
	var b budget
	b.setLimit(5, 3)
	require.True(t, b.tryExtra())
	require.True(t, b.tryExtra())
	require.False(t, b.tryExtra(), "three are for the three subscriptions")
	for range 3 {
		require.True(t, b.try())
	}
	require.False(t, b.try())
	b.releaseExtra()
	require.True(t, b.tryExtra())
}
