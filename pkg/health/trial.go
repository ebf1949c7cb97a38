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
	trialsAtOnce = 32               // a file descriptor of the source's backend each
	sessionIdle  = 10 * time.Second // a trial session without work is closed after that
	localTimeout = 30 * time.Second // for what the source does for us
)

// trials makes the trials of nodes that are down, or of those that are not, in a
// session of its own.
type trials struct {
	prober *Prober
	down   bool
	wake   chan struct{}

	session *session.PGX
	lines   *dblink.Lines
	used    time.Time
}

func (t *trials) run(ctx context.Context) {
	defer t.close(ctx)
	for ctx.Err() == nil {
		batch, pause := t.take()
		if len(batch) > 0 {
			refusals, err := t.try(ctx, batch)
			if err != nil {
				t.close(ctx)
				t.prober.log.Debug("nodes could not be tried", "error", err.Error())
			}
			t.prober.tried(batch, refusals)
			t.used = time.Now()
			continue
		}
		if t.session != nil {
			idle := sessionIdle - time.Since(t.used)
			if idle <= 0 {
				t.close(ctx)
				continue
			}
			pause = min(pause, idle)
		}
		sleep(ctx, pause, t.wake)
	}
}

// candidate is a node as it was when its trial began.
type candidate struct {
	node   *node
	server string
	hosts  bool // several
}

// take begins trials that are due; if there are none it says how long until
// there is one.
func (t *trials) take() ([]candidate, time.Duration) {
	p := t.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	now, next := p.now(), time.Hour
	var batch []candidate
	for _, n := range p.nodes {
		if n.phase != waiting || (n.status.State == Down) != t.down {
			continue
		}
		if left := n.due.Sub(now); left > 0 {
			next = min(next, left)
		} else if len(batch) < trialsAtOnce {
			n.phase = trying
			batch = append(batch, candidate{n, n.server, n.severalHosts})
		}
	}
	return batch, next
}

// try makes the trials; an error says nothing about the nodes.
func (t *trials) try(ctx context.Context, batch []candidate) ([]*session.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	if t.session == nil {
		if err := t.connect(ctx); err != nil {
			return nil, err
		}
	}
	deadline := t.prober.config.Deadline
	servers := make([]string, len(batch))
	for i, c := range batch {
		servers[i] = c.server
	}
	refusals, err := t.lines.Try(ctx, servers, deadline)
	if err != nil {
		return nil, err
	}
	// With several hosts it is libpq's connect_timeout that goes from one to
	// the next, so a blocking connection has the last word.
	for i, c := range batch {
		if refusals[i] != nil && refusals[i].SQLState == "08001" && c.hosts {
			if refusals[i], err = t.tryHosts(ctx, c.server); err != nil {
				return nil, err
			}
		}
	}
	return refusals, nil
}

func (t *trials) tryHosts(ctx context.Context, server string) (*session.Error, error) {
	const line = "pg_courier_probe_trial"
	err := t.lines.Connect(ctx, line, server)
	var refusal *session.Error
	if errors.As(err, &refusal) {
		return refusal, nil
	} else if err != nil {
		return nil, err
	}
	return nil, t.lines.Disconnect(ctx, line)
}

func (t *trials) connect(ctx context.Context) error {
	s, err := session.Connect(ctx, t.prober.config.DSN)
	if err != nil {
		return err
	}
	if err = limit(ctx, s); err == nil {
		t.lines, err = dblink.NewLines(ctx, s)
	}
	if err != nil {
		s.Close(ctx)
		return err
	}
	t.session = s
	return nil
}

func (t *trials) close(ctx context.Context) {
	if t.session != nil {
		t.session.Close(ctx)
		t.session = nil
	}
}

// tried takes in what came of trials. Without results they are made again after
// an interval.
func (p *Prober) tried(batch []candidate, refusals []*session.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for i, c := range batch {
		n := c.node
		if n.gone {
			continue
		}
		switch {
		case refusals == nil:
			n.wait(now.Add(jitter(p.config.Interval)))
		case refusals[i] == nil:
			n.phase, n.tried = ready, now
		default:
			n.tried = now
			p.fail(n, refusals[i])
		}
	}
	signal(p.wake)
	signal(p.sick.wake)
}

// limit prepares a session. Every statement is bounded by the source itself, so
// that nothing goes on there for long when we are gone.
func limit(ctx context.Context, s session.Session) error {
	_, err := s.Query(ctx, fmt.Sprintf(`SELECT pg_catalog.set_config('statement_timeout', '%d', false),
		pg_catalog.set_config('application_name', 'pg_courier probe', false)`, localTimeout.Milliseconds()))
	if err != nil {
		return fmt.Errorf("prepare a session: %w", err)
	}
	return nil
}
