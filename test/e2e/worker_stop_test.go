package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// stopPatience bounds a stop of the server that nobody but workers could delay.
// pgtest kills a server that takes 30 s.
const stopPatience = 15 * time.Second

func (r *replica) stopsPromptly(mode pgtest.Mode) {
	r.t.Helper()
	start := time.Now()
	require.NoError(r.t, r.source.Stop(mode))
	took := time.Since(start)
	r.t.Logf("stopped in %s", took.Round(time.Millisecond))
	require.Less(r.t, took, stopPatience)
}

// The server stops in every mode while workers are idle, and goes on afterwards.
func TestWorkersStop(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgtest.Mode{
		"smart": pgtest.Smart, "fast": pgtest.Fast, "immediate": pgtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			r := startWorkers(t)
			r.onSource("INSERT INTO item VALUES (1, 'new')")
			r.wait()
			r.stopsPromptly(mode)
			require.NoError(t, r.source.Start(t.Context()))
			r.onSource("INSERT INTO item VALUES (2, 'new')")
			r.wait()
			r.requireEqual("item")
			if mode != pgtest.Immediate {
				require.NotContains(t, r.source.LogTail(1<<20), "terminating background worker \"pg_courier", "idle workers end without a word")
			}
		})
	}
}

// The same while a ship worker waits for a node that does not finish its batch.
func TestWorkersStopWhileShipping(t *testing.T) {
	for name, mode := range map[string]pgtest.Mode{
		"smart": pgtest.Smart, "fast": pgtest.Fast, "immediate": pgtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			r := startWorkers(t)
			r.onSource("INSERT INTO item VALUES (1, 'new')")
			r.wait()
			locker := r.target.Connect(t, appDatabase)
			_, err := locker.Exec(t.Context(), "BEGIN; UPDATE item SET name = 'locked'")
			require.NoError(t, err)
			r.onSource("UPDATE item SET name = 'changed'")
			r.awaitBlocked()
			r.stopsPromptly(mode)
			_, err = locker.Exec(t.Context(), "ROLLBACK")
			require.NoError(t, err)
			require.NoError(t, r.source.Start(t.Context()))
			r.wait()
			r.requireEqual("item")
		})
	}
}

// A node in the same server is a session that a smart stop waits for: it must not
// wait for ever.
func TestWorkersStopWithOwnNode(t *testing.T) {
	t.Parallel()
	r := startBare(t, pgtest.Preload(true))
	r.source.Database(t, "node")
	r.source.Exec(t, "node", "CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.install(r.source.DSN("node"))
	r.onSource("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	r.onSource("INSERT INTO item VALUES (1, 'new')")
	r.wait()
	require.Equal(t, "1", r.source.Value(t, "node", "SELECT count(*) FROM item"))
	r.stopsPromptly(pgtest.Smart)
	require.NoError(t, r.source.Start(t.Context()))
	r.onSource("INSERT INTO item VALUES (2, 'new')")
	r.wait()
	require.Equal(t, "2", r.source.Value(t, "node", "SELECT count(*) FROM item"))
}
