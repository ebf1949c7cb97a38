package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// switchboard passes connections on to a server. Silenced, it takes what comes
// over those it has, and passes nothing on; new ones are as good as ever.
type switchboard struct {
	listener net.Listener
	silenced atomic.Int64 // connections up to this number
	count    atomic.Int64
	pumps    sync.WaitGroup
}

func startSwitchboard(t *testing.T, target string) *switchboard {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &switchboard{listener: listener}
	ctx, cancel := context.WithCancel(context.Background())
	b.pumps.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			number := b.count.Add(1)
			context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
			b.pumps.Go(func() { b.pump(number, server, client) })
			b.pumps.Go(func() { b.pump(number, client, server) })
		}
	})
	t.Cleanup(func() { cancel(); _ = listener.Close(); b.pumps.Wait() })
	return b
}

// pump does not tell a silenced connection's one side that the other has ended.
func (b *switchboard) pump(number int64, to, from net.Conn) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if number <= b.silenced.Load() {
			if err != nil {
				return
			}
			continue
		}
		if err == nil {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			_, _ = to.Close(), from.Close()
			return
		}
	}
}

func (b *switchboard) silence() { b.silenced.Store(b.count.Load()) }

// FAULTS: half-open TCP. Under load the link goes silent, the node is well: it is
// given up, a new one goes on, and everything arrives once.
func TestHalfOpenLink(t *testing.T) {
	t.Parallel()
	r := startItems(t)
	b := startSwitchboard(t, fmt.Sprintf("127.0.0.1:%d", r.target.Port))
	r.onSource(fmt.Sprintf("ALTER SERVER courier_%s OPTIONS (SET port '%d')", targetNode, b.listener.Addr().(*net.TCPAddr).Port))
	courier := r.startSidecar()
	const rows = 200
	insert := func(round int) {
		r.onSource(fmt.Sprintf("INSERT INTO item SELECT i, 'new' FROM generate_series(%d, %d) i", round*rows, (round+1)*rows-1))
		r.onSource("INSERT INTO journal SELECT i, 'once' FROM generate_series(1, 10) i")
	}
	insert(0)
	r.wait()
	for round := 1; round <= 2; round++ {
		b.silence()
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
