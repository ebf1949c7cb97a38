package session

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// connectTimeout bounds connecting when the connection string does not.
	connectTimeout = 10 * time.Second
	// keepAlive is how soon the kernel asks a silent server whether it is
	// there; three questions in vain, or data not taken for silence, end the
	// connection.
	keepAlive = 5 * time.Second
	silence   = 15 * time.Second
	// writeBlock is what is written at once, so that progress can be seen.
	writeBlock = 64 << 10
)

// conn notes when bytes came or went last, and cancels a query when that is too
// long ago.
type conn struct {
	net.Conn
	moved atomic.Int64 // Unix nanoseconds
	// given says that nobody waits for the server any more: what is left to do
	// to it is bounded by closeTimeout.
	given atomic.Bool

	mu      sync.Mutex // of the watch
	timer   *time.Timer
	limit   time.Duration
	started time.Time
	cancel  context.CancelFunc // nil between queries
	expired bool
}

func newConn(c net.Conn) *conn {
	watched := &conn{Conn: c}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	watched.timer = time.AfterFunc(DefaultLimit, watched.look)
	watched.timer.Stop()
	return watched
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.moved.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	written := 0
	for {
		block := b[written:min(len(b), written+writeBlock)]
		n, err := c.Conn.Write(block)
		written += n
		if n > 0 {
			c.moved.Store(time.Now().UnixNano())
		}
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// SetDeadline implements net.Conn. pgx gives a connection that it gives up 15
// seconds for a farewell.
func (c *conn) SetDeadline(t time.Time) error {
	if soonest := time.Now().Add(closeTimeout); c.given.Load() && (t.IsZero() || t.After(soonest)) {
		t = soonest
	}
	return c.Conn.SetDeadline(t)
}

// dialer connects a session, and once more to cancel a query of it.
type dialer struct {
	timeout time.Duration
	conn    *conn // of the session
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	timeout := d.timeout
	if d.conn != nil && d.conn.given.Load() {
		timeout = closeTimeout
	}
	plain := net.Dialer{Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 2, Count: 3},
		Control:         boundUnacknowledged}
	c, err := plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.conn != nil && d.conn.given.Load() {
		return c, nil // for the cancel request
	}
	d.conn = newConn(c)
	return d.conn, nil
}

// boundUnacknowledged lets the kernel end a connection whose other side does not
// acknowledge what is sent. Best effort: other systems have no such option.
func boundUnacknowledged(network, _ string, raw syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	return raw.Control(func(fd uintptr) { setUserTimeout(int(fd), silence) })
}

// watch cancels a query when no byte has moved for limit, until unwatch.
func (c *conn) watch(ctx context.Context, limit time.Duration) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, c.cancel = context.WithCancel(ctx)
	c.limit, c.started, c.expired = limit, time.Now(), false
	c.timer.Reset(limit)
	return ctx
}

// unwatch ends the watch, and gives the error to report instead of that of the
// cancel, if there was one.
func (c *conn) unwatch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	c.cancel()
	c.cancel = nil
	if c.expired {
		return fmt.Errorf("the database at %s has not answered for %s", c.RemoteAddr(), c.limit)
	}
	return nil
}

// look is what the timer calls.
func (c *conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel == nil {
		return
	}
	heard := time.Unix(0, c.moved.Load())
	if heard.Before(c.started) {
		heard = c.started
	}
	if left := c.limit - time.Since(heard); left > 0 {
		c.timer.Reset(left)
		return
	}
	c.expired = true
	c.given.Store(true)
	c.cancel()
}
