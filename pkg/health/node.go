package health

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// phase is where a node is on its way to a line; see the package's comment.
type phase int

const (
	waiting phase = iota
	trying
	ready
	open
)

const (
	fullEvery      = 6                // probes
	lineAge        = 10 * time.Minute // then it is made anew
	longestBackoff = 6                // intervals
	latencies      = 5                // the median is taken of so many
)

// definition says how a node is reached.
type definition struct {
	server       string
	fingerprint  string // changes with the options of server and user mapping
	severalHosts bool
}

// node is one node. All of it is guarded by the Prober's mutex; the phases open
// and ready are left by the home session only, trying by the trial that has it.
type node struct {
	definition
	status  Status
	changed chan struct{} // closed at the next change of state
	written bool          // its state is in courier.node_state

	phase    phase
	due      time.Time // waiting: of the trial; open: of the next probe
	tried    time.Time // end of the last trial
	failures int       // in a row
	gone     bool      // dropped, or defined anew; a trial under way is in vain

	line     string
	hangUp   bool // close the line and try anew
	opened   time.Time
	answered bool // this line has answered a probe
	asking   question
	asked    time.Time
	upcoming []question
	probes   int // since the last full one

	latest   []time.Duration
	limit    int
	readOnly [2]bool // of the line, of new sessions
	diskFull time.Time
}

func newNode(name string, d definition, now time.Time) *node {
	return &node{
		definition: d,
		status:     Status{Node: name, State: Unknown, Since: now, NextProbe: now, ConnectionsLeft: -1, Definition: d.server + " " + d.fingerprint},
		changed:    make(chan struct{}),
		due:        now,
	}
}

// wait puts the node into phase waiting.
func (n *node) wait(due time.Time) {
	n.phase, n.due, n.status.NextProbe = waiting, due, due
	n.line, n.hangUp, n.answered, n.asking, n.upcoming = "", false, false, nothing, nil
}

// judge is the verdict on what was measured.
func (n *node) judge(now time.Time) Verdict {
	return Judge(Measurement{
		Latency:         n.status.Latency,
		InRecovery:      n.status.InRecovery,
		ReadOnly:        n.status.ReadOnly,
		ClockOffset:     n.status.ClockOffset,
		ConnectionsLeft: n.status.ConnectionsLeft,
		ConnectionLimit: n.limit,
		DiskFull:        !n.diskFull.IsZero(),
		DiskFullFor:     now.Sub(n.diskFull),
	})
}

// took notes a round trip.
func (n *node) took(d time.Duration) {
	n.latest = append(n.latest, d)
	n.latest = n.latest[max(0, len(n.latest)-latencies):]
	sorted := slices.Sorted(slices.Values(n.latest))
	n.status.Latency = sorted[len(sorted)/2]
}

// conclude sets a node's state and tells whoever waits for a change.
func (p *Prober) conclude(n *node, v Verdict) {
	was := n.status.State
	n.written = n.written && n.status.SQLState == v.SQLState
	n.status.Reason, n.status.SQLState = v.Reason, v.SQLState
	if v.State == was {
		return
	}
	n.status.State, n.status.Since = v.State, p.now()
	n.written = false
	close(n.changed)
	n.changed = make(chan struct{})
	log := p.log.With("node", n.status.Node, "was", string(was))
	switch v.State {
	case Up:
		log.Info("node is up")
	case Degraded:
		log.Warn("node is degraded", "reason", v.Reason, "sqlstate", v.SQLState)
	case Down:
		log.Warn("node is down", "reason", v.Reason, "sqlstate", v.SQLState)
	}
}

// fail notes that a node cannot be used, and when it is tried again.
func (p *Prober) fail(n *node, e *session.Error) {
	now := p.now()
	n.status.ProbedAt = now
	n.latest = nil
	p.conclude(n, Refusal(e, n.server))
	pause := p.config.Interval << min(n.failures, 8)
	n.failures++
	n.wait(now.Add(jitter(min(pause, longestBackoff*p.config.Interval))))
}

// jitter spreads what would otherwise come at once, by a tenth either way.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
