package dblink

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy passes connections on to a server, until it is told to do it badly.
// What it is sent while it holds, it takes as far as its buffers go.
type proxy struct {
	listener net.Listener
	target   string
	ctx      context.Context
	pumps    sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of what follows
	held    int           // connections up to this number are held
	rate    int           // bytes a second, 0: as fast as can be
	count   int           // of connections
	open    []*net.TCPConn
}

// everything is a number that no connection reaches.
const everything = 1 << 30

func startProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{listener: listener, target: target, ctx: ctx, changed: make(chan struct{})}
	p.pumps.Go(p.accept)
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		p.reset()
		p.pumps.Wait()
	})
	return p
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.count++
		number := p.count
		p.open = append(p.open, client.(*net.TCPConn), server.(*net.TCPConn))
		p.mu.Unlock()
		p.pumps.Go(func() { p.pump(number, server, client) })
		p.pumps.Go(func() { p.pump(number, client, server) })
	}
}

func (p *proxy) pump(number int, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!p.pass(number, n) || !write(to, buffer[:n])) || err != nil {
			return
		}
	}
}

func write(to io.Writer, b []byte) bool {
	_, err := to.Write(b)
	return err == nil
}

// pass waits until so many bytes may go on.
func (p *proxy) pass(number, bytes int) bool {
	for {
		p.mu.Lock()
		held, rate, changed := number <= p.held, p.rate, p.changed
		p.mu.Unlock()
		pause := 24 * time.Hour
		if !held {
			if rate == 0 {
				return true
			}
			pause = time.Duration(bytes) * time.Second / time.Duration(rate)
		}
		select {
		case <-time.After(pause):
			return true
		case <-changed:
		case <-p.ctx.Done():
			return false
		}
	}
}

// behave holds the connections up to a number, and slows down the others.
func (p *proxy) behave(held, rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.rate = held, rate
	close(p.changed)
	p.changed = make(chan struct{})
}

// present is the number of the last connection made.
func (p *proxy) present() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// reset breaks all connections off.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	p.open = nil
}
