package health_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/health"
)

// proxy passes bytes on, until it is told to swallow them: connections stay
// open and new ones are taken, but nothing comes through, as on a half-open
// link.
type proxy struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu      sync.Mutex
	passing *sync.Cond
	silent  bool
	closed  bool
	conns   []net.Conn
}

func newProxy(t *testing.T, port int) *proxy {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, target: fmt.Sprintf("127.0.0.1:%d", port)}
	p.passing = sync.NewCond(&p.mu)
	p.group.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp4", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.group.Go(func() { p.copy(near, far) })
		p.group.Go(func() { p.copy(far, near) })
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.pass() {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// pass waits while nothing comes through.
func (p *proxy) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.silent && !p.closed {
		p.passing.Wait()
	}
	return !p.closed
}

func (p *proxy) silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = on
	p.passing.Broadcast()
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.passing.Broadcast()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.group.Wait()
}

// Nodes that are silent on lines and swallow new connections hold up nobody.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	const silentOnes = 5
	link := newProxy(t, s.Port)
	s.Database(t, "us")
	s.node("us", s.DSN("us"))
	dsn := strings.Replace(s.DSN("us"), fmt.Sprintf("port=%d", s.Port),
		fmt.Sprintf("port=%d connect_timeout=60 sslmode=disable gssencmode=disable", link.listener.Addr().(*net.TCPAddr).Port), 1)
	for i := range silentOnes {
		s.node(fmt.Sprintf("half%d", i), dsn)
	}
	s.run()
	for i := range silentOnes {
		s.await(fmt.Sprintf("half%d", i), health.Up)
	}
	s.await("us", health.Up)

	link.silence(true)
	longest := time.Duration(0) // between two probes of the other node
	last, _ := s.prober.Status("us")
	require.Eventually(t, func() bool {
		if status, _ := s.prober.Status("us"); status.ProbedAt.After(last.ProbedAt) {
			longest = max(longest, status.ProbedAt.Sub(last.ProbedAt))
			last = status
		}
		down := 0
		for _, n := range s.prober.All() {
			if n.State == health.Down {
				down++
			}
		}
		return down == silentOnes
	}, patience, time.Millisecond)
	require.Less(t, longest, deadline, "the other node was not probed meanwhile")
	status, _ := s.prober.Status("half0")
	require.Equal(t, "08001", status.SQLState)
	require.Contains(t, status.Reason, "was not made within 2000 ms")

	link.silence(false)
	for i := range silentOnes {
		s.await(fmt.Sprintf("half%d", i), health.Up)
	}
	require.Equal(t, 1, strings.Count(s.log.String(), "node=us"))
}

// A first host that is silent does not make a node down whose second answers.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	link := newProxy(t, s.Port)
	link.silence(true)
	s.node("eu", fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres connect_timeout=2 gssencmode=disable sslmode=disable",
		link.listener.Addr().(*net.TCPAddr).Port, s.Port))
	s.run(func(c *health.Config) { c.Deadline = interval })
	s.await("eu", health.Up)
	require.NotContains(t, s.log.String(), "node is down")
}
