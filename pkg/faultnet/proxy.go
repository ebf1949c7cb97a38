package faultnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy listens on a port of 127.0.0.1 and passes connections on.
type Proxy struct {
	upstream string
	listener *net.TCPListener
	done     context.Context // over when the proxy is closed
	end      context.CancelFunc
	group    sync.WaitGroup // accept loop and links

	resets atomic.Int64
	line   [2]line // of the bandwidth, by direction

	mu    sync.Mutex
	fault fault
	links map[*link]struct{}
}

// fault is what is wrong now; the zero value is nothing.
type fault struct {
	latency   time.Duration // of a round trip
	rate      int           // bytes a second, 0 for no bound
	fraction  float64       // of passes that become resets
	random    *rand.Rand    // needs Proxy.mu
	blackhole bool
	halfOpen  bool
	slow      time.Duration // between the ends of two sides
}

// New starts a proxy to upstream, a host:port, that ends with the test.
func New(t testing.TB, upstream string) *Proxy {
	t.Helper()
	p, err := Listen(t.Context(), upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Listen starts a proxy to upstream, a host:port, that the caller ends with Close.
func Listen(ctx context.Context, upstream string) (*Proxy, error) {
	// the kernel's own probes would end connections in a blackhole
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false) // has no packet filters
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", upstream, err)
	}
	p := &Proxy{upstream: upstream, listener: listener.(*net.TCPListener), links: make(map[*link]struct{})}
	p.done, p.end = context.WithCancel(context.Background())
	p.group.Go(p.accept)
	return p, nil
}

// Close ends the proxy and closes its connections.
func (p *Proxy) Close() {
	p.end()
	p.listener.Close()
	p.each(func(l *link) { l.closeBoth() })
	p.group.Wait()
}

// Addr is host:port to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Resets is how many connections ResetPeer has reset so far.
func (p *Proxy) Resets() int { return int(p.resets.Load()) }

// Connections is how many connections the proxy keeps.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Latency lets round trips take d longer.
func (p *Proxy) Latency(d time.Duration) { p.set(fault{latency: d}) }

// Bandwidth lets so many bytes a second through each way.
func (p *Proxy) Bandwidth(bytes int) { p.set(fault{rate: bytes}) }

// ResetPeer resets the connection at a fraction of what is passed, a read's
// worth at a time.
func (p *Proxy) ResetPeer(fraction float64, random *rand.Rand) {
	p.set(fault{fraction: fraction, random: random})
}

// Blackhole loses every packet.
func (p *Proxy) Blackhole() { p.set(fault{blackhole: true}) }

// HalfOpen keeps connections and passes nothing.
func (p *Proxy) HalfOpen() { p.set(fault{halfOpen: true}) }

// SlowClose tells an end to the other side d later.
func (p *Proxy) SlowClose(d time.Duration) { p.set(fault{slow: d}) }

// Restore ends the fault.
func (p *Proxy) Restore() { p.set(fault{}) }

// Cut resets the clients' side of all connections.
func (p *Proxy) Cut() {
	p.each(func(l *link) { reset(l.client) })
}

func (p *Proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	filter(p.listener, f.blackhole) // packets that open a connection come here
	for l := range p.links {
		l.apply(f)
	}
}

func (p *Proxy) now() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // it was gone before it was taken
		}
		p.group.Go(func() { p.serve(client) })
	}
}

// serve passes on one connection until it ends.
func (p *Proxy) serve(client *net.TCPConn) {
	l := newLink(p, client)
	if !p.add(l) {
		l.closeBoth()
		return
	}
	defer p.remove(l)
	if !l.frozen.Load() {
		dialer := net.Dialer{KeepAlive: -1}
		server, err := dialer.DialContext(p.done, "tcp4", p.upstream)
		if err != nil {
			reset(client) // what a client of a server that is down sees, if a little later
			return
		}
		l.attach(server.(*net.TCPConn))
	}
	l.run()
}

// add takes a link in under the present fault; false when the proxy is closed.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done.Err() != nil {
		return false
	}
	p.links[l] = struct{}{}
	l.apply(p.fault)
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	l.closeBoth()
}

// resetNow draws whether what is to be passed becomes a reset.
func (p *Proxy) resetNow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault.random != nil && p.fault.random.Float64() < p.fault.fraction
}

// sleep waits; false means that the proxy is closed.
func (p *Proxy) sleep(d time.Duration) bool {
	if d <= 0 {
		return p.done.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.done.Done():
		return false
	}
}
