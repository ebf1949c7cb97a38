package ship

import (
	"context"
	"runtime/debug"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
)

// send starts a piece. What comes of it settle takes up.
func (s *Shipper) send(ctx context.Context, p *piece) error {
	s.flight, p.sent = p, s.now()
	if err := s.sendScript(ctx, p.script); err != nil {
		return err
	}
	if p.begins || p.ends {
		s.head = p.head
	}
	return nil
}

// settle waits for the piece in flight. An error is a *failure.
func (s *Shipper) settle(ctx context.Context) error {
	if s.flight == nil {
		return nil
	}
	p := s.flight
	s.flight = nil
	outcome, err := s.link.Wait(ctx)
	return s.landed(ctx, p, outcome, err)
}

// run sends a piece and waits for it. An error is a *failure.
func (s *Shipper) run(ctx context.Context, p *piece) error {
	p.sent = s.now()
	if p.begins || p.ends {
		s.head = p.head
	}
	if p.script.Len() < dblink.Large {
		outcome, err := s.link.Run(ctx, p.script.Bytes())
		return s.landed(ctx, p, outcome, err)
	}
	var outcome dblink.Outcome
	err := s.sendScript(ctx, p.script)
	if err == nil {
		outcome, err = s.link.Wait(ctx)
	}
	return s.landed(ctx, p, outcome, err)
}

// sendScript starts a script. The text of a large one is in this process no longer then.
func (s *Shipper) sendScript(ctx context.Context, script *render.Script) error {
	if script.Len() < dblink.Large {
		return s.link.Send(ctx, script.Bytes())
	}
	if err := s.link.Keep(ctx, script.Bytes()); err != nil {
		return err
	}
	script.Drop()
	debug.FreeOSMemory()
	return s.link.SendKept(ctx)
}

// landed takes up what the target says of a piece.
func (s *Shipper) landed(ctx context.Context, p *piece, outcome dblink.Outcome, err error) error {
	if err != nil {
		return &failure{piece: p, completed: -1, err: err}
	}
	if outcome.Err != nil {
		return &failure{piece: p, completed: outcome.Completed, err: outcome.Err, verbatim: outcome.Verbatim}
	}
	took := s.now().Sub(p.sent)
	s.sizer.observe(p.net, took, s.mostRows())
	s.countLanded(p, &outcome)
	s.unit.apply += took
	if p.ends {
		s.position = &p.position
		s.finishUnit(p)
		if err := s.restoreSession(ctx, p.unit); err != nil {
			return err
		}
		if err := s.finishLetters(ctx, p.unit); err != nil {
			return err
		}
		if err := s.writeDown(ctx, false, false); err != nil {
			return err
		}
	}
	s.log.Debug("applied", "subscription", s.name, "changes", p.shipped, "position", p.head)
	return nil
}

// finishUnit counts a unit that the target has committed.
func (s *Shipper) finishUnit(p *piece) {
	s.countUnit()
	s.limit, s.schema, s.deferred = 0, 0, nil
	if p.unit.pass != nil {
		s.forgetPartial()
	}
	if last := p.unit.places[len(p.unit.places)-1]; !last.before(s.slowUntil) {
		s.slowUntil = place{}
	}
	s.tidying.units++
	if s.undurable = !p.unit.durable; !s.undurable {
		s.notes.durable = p.head
		s.mark = flushMark{}
	}
	s.lastCheck = s.now()
}

// nextScript returns the script that is not in flight, empty.
func (s *Shipper) nextScript() *render.Script {
	s.scripts[0], s.scripts[1] = s.scripts[1], s.scripts[0]
	s.scripts[0].Reset()
	return s.scripts[0]
}
