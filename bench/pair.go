package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// pair is a source and a target, and the tables that are shipped.
type pair struct {
	source, target *server
	tables         []*table
	number         int  // of the target, among those of the source
	sourceNumber   int  // of the source, among those of the target
	copies         bool // rows that the source has before shipping starts are to be copied
	copyOptions    copyOptions
	batchRows      int // of a batch of pg_courier; 0: as by default

	toSource, toTarget *faultnet.Proxy // nil: by the socket
}

// address is how a server is reached.
type address struct {
	host     string
	port     int
	database string
}

// conninfo is a libpq connection string.
func (a address) conninfo() string {
	return fmt.Sprintf("host=%s port=%d dbname=%s user=%s", a.host, a.port, a.database, pgtest.Superuser)
}

// near is how a server is reached from its own host.
func (s *server) near() address { return address{s.SocketDir, s.Port, s.database} }

// sourceFromTarget is how whoever runs beside the target reaches the source.
func (p *pair) sourceFromTarget() address { return far(p.source, p.toSource) }

// targetFromSource is how whoever runs beside the source reaches the target.
func (p *pair) targetFromSource() address { return far(p.target, p.toTarget) }

func far(s *server, proxy *faultnet.Proxy) address {
	if proxy == nil {
		return s.near()
	}
	return address{"127.0.0.1", proxy.Port(), s.database}
}

// startPair starts both servers with what the system needs, and with further
// settings, and makes the tables on both.
func startPair(ctx context.Context, s *system, tables []*table, further map[string]string) (*pair, error) {
	p := &pair{tables: tables}
	options, err := s.options(further)
	if err != nil {
		return nil, err
	}
	if p.source, err = startServer(ctx, s.name+"-source", options...); err != nil {
		return nil, err
	}
	if p.target, err = startServer(ctx, s.name+"-target", options...); err != nil {
		return nil, errors.Join(err, p.source.destroy())
	}
	if err := p.both(ctx, createTables(tables)); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	return p, nil
}

// delay puts a link between the servers whose round trips take d longer. With d 0
// there is the same link, without delay.
func (p *pair) delay(ctx context.Context, d time.Duration) error {
	var err error
	for proxy, s := range map[**faultnet.Proxy]*server{&p.toSource: p.source, &p.toTarget: p.target} {
		if *proxy, err = faultnet.Listen(ctx, fmt.Sprintf("127.0.0.1:%d", s.Port)); err != nil {
			return err
		}
		(*proxy).Latency(d)
	}
	return nil
}

func (p *pair) destroy() error {
	for _, proxy := range []*faultnet.Proxy{p.toSource, p.toTarget} {
		if proxy != nil {
			proxy.Close()
		}
	}
	return errors.Join(p.source.destroy(), p.target.destroy())
}

// both runs the same on source and target.
func (p *pair) both(ctx context.Context, sql string) error {
	if err := p.source.exec(ctx, sql); err != nil {
		return err
	}
	return p.target.exec(ctx, sql)
}

// checkpoint writes both servers' buffers out, so that no system pays for what
// came before.
func (p *pair) checkpoint(ctx context.Context) error { return p.both(ctx, "CHECKPOINT") }

// settleTimeout is how long contents may differ behind the last row: a system may
// apply tables one after the other.
const settleTimeout = time.Minute

// compare is an error unless source and target come to hold the same.
func (p *pair) compare(ctx context.Context, tables []*table) error {
	for _, t := range tables {
		want, err := p.source.contents(ctx, t.name)
		if err != nil {
			return err
		}
		deadline := time.Now().Add(settleTimeout)
		if err := poll(ctx, func() (bool, error) {
			got, err := p.target.contents(ctx, t.name)
			if err != nil || got == want {
				return true, err
			}
			if time.Now().After(deadline) {
				return true, fmt.Errorf("table %s: the target differs from the source: it has %s, not %s", t.name, got, want)
			}
			return false, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// explain adds the ends of the servers' logs to an error.
func (p *pair) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w\nend of the source's log:\n%s\nend of the target's log:\n%s",
		err, p.source.LogTail(2000), p.target.LogTail(2000))
}
