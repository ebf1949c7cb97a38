package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
)

// FAULTS: half-open TCP. Under load the link goes silent, the node is well: it is
// given up, a new one goes on, and everything arrives once.
func TestHalfOpenLink(t *testing.T) {
	t.Parallel()
	r := startItems(t)
	p := faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", r.target.Port))
	r.onSource(fmt.Sprintf("ALTER SERVER courier_%s OPTIONS (SET port '%d')", targetNode, p.Port()))
	courier := r.startSidecar()
	const rows = 200
	insert := func(round int) {
		r.onSource(fmt.Sprintf("INSERT INTO item SELECT i, 'new' FROM generate_series(%d, %d) i", round*rows, (round+1)*rows-1))
		r.onSource("INSERT INTO journal SELECT i, 'once' FROM generate_series(1, 10) i")
	}
	insert(0)
	r.wait()
	for round := 1; round <= 2; round++ {
		p.HalfOpen()
		p.Restore() // for new connections
		started := time.Now()
		insert(round)
		r.wait()
		t.Logf("back after %s", time.Since(started).Round(time.Millisecond))
		require.Less(t, time.Since(started), patience)
		r.requireEqual("item", "journal")
	}
	require.Contains(t, courier.log.String(), "connection lost")
	r.target.Eventually(t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'", "0", patience)
	require.False(t, strings.Contains(courier.log.String(), "stopped"))
	courier.stop()
}
