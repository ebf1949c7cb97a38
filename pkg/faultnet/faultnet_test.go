package faultnet

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that has to happen.
const patience = 20 * time.Second

// echo is a server that answers what it is sent; ends tells of connections that
// have ended.
func echo(t *testing.T) (addr string, ends <-chan time.Time) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	times := make(chan time.Time, 10)
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			group.Go(func() {
				_, _ = io.Copy(conn, conn) // how it ends is not the point
				times <- time.Now()
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return listener.Addr().String(), times
}

// start is a proxy before an echo server.
func start(t *testing.T) (*Proxy, <-chan time.Time) {
	t.Helper()
	addr, ends := echo(t)
	return New(t, addr), ends
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// ask sends and gives the answer's error, within a time.
func ask(conn net.Conn, n int, within time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(within)) // a closed connection says so below
	go func() {
		_, _ = conn.Write(make([]byte, n)) // the answer tells
	}()
	_, err := io.ReadFull(conn, make([]byte, n))
	return err
}

func TestPassesEverythingOn(t *testing.T) {
	p, ends := start(t)
	conn := dial(t, p)
	require.NoError(t, ask(conn, 1<<20, patience))
	require.Equal(t, 1, p.Connections())
	conn.Close()
	<-ends
	require.Eventually(t, func() bool { return p.Connections() == 0 }, patience, time.Millisecond)
}

func TestServerThatIsDown(t *testing.T) {
	p := New(t, "127.0.0.1:1")
	conn, err := net.DialTimeout("tcp4", p.Addr(), patience)
	if err == nil { // else the reset came first
		err = ask(conn, 1, patience)
		conn.Close()
	}
	require.Error(t, err)
}

func TestLatency(t *testing.T) {
	p, _ := start(t)
	conn := dial(t, p)
	p.Latency(200 * time.Millisecond)
	for _, n := range []int{1, 1 << 20} { // much takes no longer than little
		begun := time.Now()
		require.NoError(t, ask(conn, n, patience))
		require.GreaterOrEqual(t, time.Since(begun), 200*time.Millisecond)
		require.Less(t, time.Since(begun), 5*time.Second)
	}
	p.Restore()
	require.NoError(t, ask(conn, 1, patience))
}

func TestBandwidthIsShared(t *testing.T) {
	p, _ := start(t)
	conns := []*net.TCPConn{dial(t, p), dial(t, p)}
	p.Bandwidth(100_000)
	begun := time.Now()
	var group sync.WaitGroup
	for _, conn := range conns {
		group.Go(func() { require.NoError(t, ask(conn, 30_000, patience)) })
	}
	group.Wait()
	require.GreaterOrEqual(t, time.Since(begun), 550*time.Millisecond, "60 kB at 100 kB/s")
}

func TestResetPeer(t *testing.T) {
	p, ends := start(t)
	p.ResetPeer(0.5, rand.New(rand.NewPCG(1, 1)))
	resets := 0
	for range 40 {
		conn := dial(t, p)
		if err := ask(conn, 1, patience); err != nil {
			require.True(t, errors.Is(err, syscall.ECONNRESET), "%v", err)
			resets++
		}
		conn.Close()
		<-ends
	}
	require.Equal(t, resets, p.Resets())
	require.Greater(t, resets, 20, "a question and its answer are two passes")
	require.Less(t, resets, 40)
}

func TestBlackholeLosesPackets(t *testing.T) {
	p, _ := start(t)
	conn, impatient := dial(t, p), dial(t, p)
	require.NoError(t, ask(conn, 1, patience))
	require.NoError(t, ask(impatient, 1, patience))
	raw, err := impatient.SyscallConn()
	require.NoError(t, err)
	const tcpUserTimeout = 18
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, 300)
	}))
	require.NoError(t, err)

	p.Blackhole()
	require.ErrorIs(t, ask(impatient, 1, patience), syscall.ETIMEDOUT, "nothing was acknowledged")
	_, err = net.DialTimeout("tcp4", p.Addr(), 300*time.Millisecond)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "nor is a connection opened: %v", err)
	require.ErrorIs(t, ask(conn, 1, 300*time.Millisecond), os.ErrDeadlineExceeded)

	p.Restore()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.ReadFull(conn, make([]byte, 1))
	require.NoError(t, err, "TCP sends it again")
	require.NoError(t, ask(dial(t, p), 1, patience))
}

func TestHalfOpen(t *testing.T) {
	p, ends := start(t)
	before := dial(t, p)
	require.NoError(t, ask(before, 1, patience))
	p.HalfOpen()
	during := dial(t, p)
	for _, conn := range []net.Conn{before, during} {
		require.ErrorIs(t, ask(conn, 1, 200*time.Millisecond), os.ErrDeadlineExceeded)
	}
	p.Restore()
	for _, conn := range []net.Conn{before, during} {
		require.ErrorIs(t, ask(conn, 1, 200*time.Millisecond), os.ErrDeadlineExceeded, "for ever")
	}
	require.NoError(t, ask(dial(t, p), 1, patience))
	before.Close()
	select {
	case <-ends:
		t.Fatal("the server was told of the end")
	case <-time.After(100 * time.Millisecond): // that nothing happens can only be seen by waiting
	}
}

func TestSlowClose(t *testing.T) {
	p, ends := start(t)
	closed, cut := dial(t, p), dial(t, p)
	require.NoError(t, ask(closed, 1, patience))
	require.NoError(t, ask(cut, 1, patience))
	p.SlowClose(300 * time.Millisecond)
	begun := time.Now()
	closed.Close()
	require.GreaterOrEqual(t, (<-ends).Sub(begun), 300*time.Millisecond)
	begun = time.Now()
	p.Cut()
	_, err := cut.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "the client knows at once")
	require.GreaterOrEqual(t, (<-ends).Sub(begun), 300*time.Millisecond, "the server later")
}
