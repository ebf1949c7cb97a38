package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

const (
	readEvery  = time.Second            // courier.node
	writeEvery = 30 * time.Second       // courier.node_state
	listen     = 50 * time.Millisecond  // one wait for answers
	connecting = 250 * time.Millisecond // in one turn, then the others are asked
)

// home is the session that has the nodes' lines.
type home struct {
	prober   *Prober
	session  *session.PGX
	lines    *dblink.Lines
	opened   int              // lines so far; numbers their names
	open     map[string]*node // by line
	sent     map[string]time.Time
	nextRead time.Time
	written  time.Time // when all states were
}

// atHome probes in one session until it fails.
func (p *Prober) atHome(ctx context.Context, connected func()) error {
	start, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	s, err := session.Connect(start, p.config.DSN)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	if err = limit(start, s); err != nil {
		return err
	}
	h := &home{prober: p, session: s, open: make(map[string]*node), sent: make(map[string]time.Time)}
	if h.lines, err = dblink.NewLines(start, s); err != nil {
		return err
	}
	for {
		pause, err := h.turn(ctx)
		if err != nil {
			return err
		}
		connected()
		if !sleep(ctx, pause, p.wake) {
			return ctx.Err()
		}
	}
}

// turn does all that is due, and says how long there is nothing more to do.
func (h *home) turn(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	p := h.prober
	if now := p.now(); !now.Before(h.nextRead) {
		if err := h.read(ctx); err != nil {
			return 0, err
		}
		h.nextRead = now.Add(readEvery)
	}
	steps := []func(context.Context) error{h.hangUp, h.connect, h.ask, h.write}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	return h.pause(), nil
}

// hangUp closes lines that are no longer wanted.
func (h *home) hangUp(ctx context.Context) error {
	p := h.prober
	p.mu.Lock()
	now := p.now()
	lines := p.hangUps
	p.hangUps = nil
	for line, n := range h.open {
		if n.gone {
			continue
		}
		silent := n.asking != nothing && now.Sub(n.asked) > p.config.Deadline
		idle := n.asking == nothing && len(n.upcoming) == 0
		switch {
		case silent && !n.answered:
			p.fail(n, &session.Error{SQLState: "08006",
				Message: fmt.Sprintf("it lets us in but gives no answer within %s", p.config.Deadline)})
		case silent, n.hangUp, idle && now.Sub(n.opened) > lineAge:
			n.wait(now)
		default:
			continue
		}
		lines = append(lines, line)
	}
	p.mu.Unlock()
	return h.close(ctx, lines)
}

// close closes lines.
func (h *home) close(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	for _, line := range lines {
		delete(h.open, line)
		delete(h.sent, line)
	}
	signal(h.prober.suspects.wake)
	signal(h.prober.sick.wake)
	return h.lines.Disconnect(ctx, lines...)
}

// connect opens lines to nodes that have just passed a trial.
func (h *home) connect(ctx context.Context) error {
	p := h.prober
	start := time.Now()
	for _, n := range p.readyOnes() {
		if time.Since(start) > connecting {
			signal(p.wake)
			return nil
		}
		h.opened++
		line := fmt.Sprintf("pg_courier_probe_%d", h.opened)
		err := h.lines.Connect(ctx, line, n.server)
		var refusal *session.Error
		if err != nil && (!errors.As(err, &refusal) || h.session.Closed()) {
			return err
		}
		h.connected(n, line, refusal)
	}
	return nil
}

// readyOnes are the nodes in phase ready.
func (p *Prober) readyOnes() []*node {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*node
	for _, n := range p.nodes {
		if n.phase == ready {
			list = append(list, n)
		}
	}
	return list
}

func (h *home) connected(n *node, line string, refusal *session.Error) {
	p := h.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case refusal == nil && n.gone:
		p.hangUps = append(p.hangUps, line)
	case n.gone:
	case refusal != nil:
		p.fail(n, refusal)
		signal(p.sick.wake)
	default:
		n.phase, n.line, n.opened = open, line, p.now()
		n.hangUp, n.answered, n.asking, n.probes = false, false, nothing, 0
		n.upcoming = []question{setup, full, probe}
		h.open[line] = n
	}
}

// ask asks what is due, until all answers are there that come soon.
func (h *home) ask(ctx context.Context) error {
	for {
		questions, asked := h.due()
		if len(questions)+len(asked) == 0 {
			return nil
		}
		answers, err := h.lines.Ask(ctx, questions, asked, listen)
		if err != nil {
			return err
		}
		if err = h.close(ctx, h.hear(answers)); err != nil || len(questions) == 0 {
			return err
		}
	}
}

// due is what is to be asked now, and which lines still owe an answer.
func (h *home) due() (questions []dblink.Question, asked []string) {
	p := h.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	soon := now.Add(p.config.Interval / 20) // neighbours go together
	for line, n := range h.open {
		switch {
		case n.gone || n.hangUp:
			continue
		case n.asking != nothing:
			asked = append(asked, line)
			continue
		case len(n.upcoming) == 0 && n.due.After(soon):
			continue
		case len(n.upcoming) == 0:
			n.upcoming = []question{probe}
			if n.probes++; n.probes >= fullEvery {
				n.probes, n.upcoming = 0, []question{full, probe}
			}
		}
		n.asking, n.upcoming, n.asked = n.upcoming[0], n.upcoming[1:], now
		questions = append(questions, dblink.Question{Line: line, SQL: n.asking.sql(p.config.Deadline)})
	}
	return questions, asked
}

// hear takes in answers and gives the lines that have failed.
func (h *home) hear(answers []dblink.Answer) (failed []string) {
	p := h.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range answers {
		n := h.open[a.Line]
		if !a.Sent.IsZero() {
			h.sent[a.Line] = a.Sent
		}
		if n == nil || n.gone || a.Err == nil && a.Answered.IsZero() {
			continue
		}
		e := p.hear(n, a, h.sent[a.Line])
		if e == nil {
			continue
		}
		failed = append(failed, a.Line)
		if n.answered {
			n.wait(p.now()) // a new connection has the last word
		} else {
			p.fail(n, e)
		}
	}
	return failed
}

// pause is how long there is nothing to do.
func (h *home) pause() time.Duration {
	p := h.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	next := h.nextRead
	for _, n := range h.open {
		if n.asking != nothing || len(n.upcoming) > 0 {
			return 0
		}
		if n.due.Before(next) {
			next = n.due
		}
	}
	return max(next.Sub(now), 0)
}
