package health

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Config says what a Prober works on.
type Config struct {
	DSN      string           // of the source database
	Interval time.Duration    // between two probes of a node; 0: 5 s
	Deadline time.Duration    // for a connection or an answer; 0: 5 s
	Log      *slog.Logger     // one line a change of state
	Now      func() time.Time // nil: time.Now
}

// Prober probes the nodes of a source database. Its methods may be called from
// any goroutine.
type Prober struct {
	config Config
	log    *slog.Logger
	now    func() time.Time
	wake   chan struct{} // of the home session

	suspects, sick *trials

	mu      sync.Mutex
	nodes   map[string]*node
	listed  chan struct{} // closed when nodes come or go
	hangUps []string      // lines of nodes that are gone
}

// New makes a Prober; Run sets it to work.
func New(config Config) *Prober {
	if config.Interval <= 0 {
		config.Interval = 5 * time.Second
	}
	if config.Deadline <= 0 {
		config.Deadline = 5 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	p := &Prober{config: config, log: config.Log, now: config.Now, wake: make(chan struct{}, 1),
		nodes: make(map[string]*node), listed: make(chan struct{})}
	p.suspects = &trials{prober: p, wake: make(chan struct{}, 1)}
	p.sick = &trials{prober: p, wake: make(chan struct{}, 1), down: true}
	return p
}

// Run probes until ctx is over, connecting to the source again when need be.
func (p *Prober) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { p.suspects.run(ctx) })
	group.Go(func() { p.sick.run(ctx) })
	defer group.Wait()

	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 10*time.Second
	told := ""
	for ctx.Err() == nil {
		err := p.atHome(ctx, func() { pause.Reset(); told = "" })
		p.loseLines()
		if ctx.Err() != nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			p.log.Warn("probing of nodes is interrupted", "error", told, "sqlstate", session.SQLState(err))
		}
		sleep(ctx, pause.NextBackOff(), nil)
	}
}

// Status is what is known of a node, and a channel that is closed when its state
// changes. A node that is not known has state Unknown; its channel is closed when
// nodes come or go.
func (p *Prober) Status(name string) (Status, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[name]
	if n == nil {
		return Status{Node: name, State: Unknown, ConnectionsLeft: -1}, p.listed
	}
	return n.status, n.changed
}

// All is the status of every node, by name.
func (p *Prober) All() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, 0, len(p.nodes))
	for _, n := range p.nodes {
		all = append(all, n.status)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// Suspect says that a shipper lost its connection to a node or could not make
// one: a new connection is tried at once, unless that was done within the last
// fifth of an interval. A node known to be down keeps to its pauses.
func (p *Prober) Suspect(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[name]
	if n == nil || n.phase != open || p.now().Sub(n.tried) < p.config.Interval/5 {
		return
	}
	n.hangUp = true
	signal(p.wake)
}

// Report says which error a shipper has met on a node. A full disk makes it
// degraded for a minute.
func (p *Prober) Report(name, sqlstate string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[name]
	if n == nil || sqlstate != "53100" {
		return
	}
	n.diskFull = p.now()
	if n.status.State == Up || n.status.State == Degraded {
		p.conclude(n, n.judge(n.diskFull))
		signal(p.wake)
	}
}

// adopt takes over what courier.node says, and reports whether a node is gone.
func (p *Prober) adopt(defined map[string]definition) (dropped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	added := false
	for name, n := range p.nodes {
		if d, ok := defined[name]; ok && d == n.definition {
			continue
		} else if ok {
			p.redefine(n, d, now)
			continue
		}
		p.forget(n)
		close(n.changed)
		delete(p.nodes, name)
		dropped = true
	}
	for name, d := range defined {
		if p.nodes[name] == nil {
			p.nodes[name] = newNode(name, d, now)
			added = true
		}
	}
	if added || dropped {
		close(p.listed)
		p.listed = make(chan struct{})
	}
	signal(p.suspects.wake)
	return dropped
}

// redefine replaces a node by one that is reached in another way. What was seen
// stays until the new way has been tried; who waits for a change is told.
func (p *Prober) redefine(n *node, d definition, now time.Time) {
	p.forget(n)
	successor := newNode(n.status.Node, d, now)
	definition := successor.status.Definition
	successor.status, successor.diskFull = n.status, n.diskFull
	successor.status.Definition = definition
	close(n.changed)
	p.nodes[n.status.Node] = successor
	signal(p.sick.wake)
}

func (p *Prober) forget(n *node) {
	n.gone = true
	if n.phase == open {
		p.hangUps = append(p.hangUps, n.line)
	}
}

// loseLines is for the end of the home session, with which its lines end.
func (p *Prober) loseLines() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUps = nil
	for _, n := range p.nodes {
		if n.phase == open || n.phase == ready {
			n.wait(p.now())
		}
		n.written = false
	}
	signal(p.suspects.wake)
	signal(p.sick.wake)
}

// signal wakes a goroutine, which may be awake.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// sleep waits for d or a wake; false means that ctx has ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-wake:
		return true
	case <-ctx.Done():
		return false
	}
}
