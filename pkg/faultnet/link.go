package faultnet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Directions of a link.
const (
	toServer = iota
	toClient
)

const (
	chunkBytes = 8 << 10 // most that is read at a time
	inFlight   = 1024    // chunks on their way, which bounds what latency holds
)

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	client *net.TCPConn

	mu     sync.Mutex
	server *net.TCPConn // nil until there is one; a half-open link has none
	closed bool

	frozen atomic.Bool   // half-open, for ever
	over   chan struct{} // closed with both sides
}

func newLink(p *Proxy, client *net.TCPConn) *link {
	return &link{proxy: p, client: client, over: make(chan struct{})}
}

// chunk is something read, and when.
type chunk struct {
	data []byte
	at   time.Time
}

// attach gives the link its server.
func (l *link) attach(server *net.TCPConn) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.mu.Lock()
	l.server = server
	if l.closed {
		server.Close()
	}
	l.mu.Unlock()
	l.apply(l.proxy.fault)
}

// apply does what a fault does to a connection that may be idle. It needs
// Proxy.mu, so that faults arrive in their order.
func (l *link) apply(f fault) {
	if f.halfOpen {
		l.frozen.Store(true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	filter(l.client, f.blackhole)
	if l.server != nil {
		filter(l.server, f.blackhole)
	}
}

// run passes data both ways until one side ends, and then tells the other.
func (l *link) run() {
	ended := make(chan struct{}, 2)
	var pumps sync.WaitGroup
	if l.server != nil {
		pumps.Go(func() { l.pump(toServer, ended) })
		pumps.Go(func() { l.pump(toClient, ended) })
	}
	select {
	case <-ended:
		if !l.frozen.Load() {
			l.proxy.sleep(l.proxy.now().slow)
		}
	case <-l.over:
	}
	if l.frozen.Load() {
		<-l.over // it is for the proxy's end to close them
	}
	l.closeBoth()
	pumps.Wait()
}

// pump passes data one way until its source ends or its destination is gone,
// says so, and returns when its source is closed.
func (l *link) pump(direction int, ended chan<- struct{}) {
	source, destination := l.client, l.server
	if direction == toClient {
		source, destination = l.server, l.client
	}
	chunks := make(chan chunk, inFlight)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(chunks)
		for {
			buffer := make([]byte, chunkBytes)
			n, err := source.Read(buffer)
			if n > 0 {
				select {
				case chunks <- chunk{buffer[:n], time.Now()}:
				case <-l.over:
					return
				}
			}
			if err != nil {
				return
			}
			if l.frozen.Load() {
				<-l.over // what comes now stays in the kernel
			}
		}
	})
	for c := range chunks {
		if !l.pass(destination, c, direction) {
			break
		}
	}
	ended <- struct{}{}
	reader.Wait()
}

// pass writes one chunk when and if the fault lets it through; false ends the
// link.
func (l *link) pass(destination *net.TCPConn, c chunk, direction int) bool {
	p := l.proxy
	f := p.now()
	switch {
	case f.latency > 0:
		// the way there is as long as the way back
		if !p.sleep(time.Until(c.at.Add(f.latency / 2))) {
			return false
		}
	case f.rate > 0:
		if !p.sleep(p.line[direction].reserve(len(c.data), f.rate)) {
			return false
		}
	case f.fraction > 0:
		if p.resetNow() {
			p.resets.Add(1)
			l.resetBoth()
			return false
		}
	}
	if l.frozen.Load() {
		<-l.over
		return false
	}
	_, err := destination.Write(c.data)
	return err == nil
}

// closeBoth closes both sides.
func (l *link) closeBoth() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.over)
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

func (l *link) resetBoth() {
	reset(l.client)
	reset(l.server)
}

// reset closes a connection by an RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // an error says that it is closed
	conn.Close()
}

// line is one way of a line of limited bandwidth.
type line struct {
	mu   sync.Mutex
	free time.Time // when what was put on it has left it
}

// reserve puts bytes on the line and says how long until they have passed it.
func (n *line) reserve(bytes, rate int) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); n.free.Before(now) {
		n.free = now
	}
	n.free = n.free.Add(time.Duration(bytes) * time.Second / time.Duration(rate))
	return time.Until(n.free)
}
