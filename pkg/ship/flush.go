package ship

import "context"

// flushLater flushes what is not, if the last time was long enough ago.
func (s *Shipper) flushLater(ctx context.Context) error {
	if !s.undurable || s.now().Sub(s.lastDurable) < durableEvery {
		return nil
	}
	return s.flush(ctx)
}

// flush moves the target's progress to where the shipper is, and has it on disk
// there. The two differ when rows of other subscriptions were passed: the queue
// keeps them until the target says that it is past them. Nothing may be in flight.
func (s *Shipper) flush(ctx context.Context) error {
	to := s.position.String()
	if err := s.link.Exec(ctx, s.advance(to, s.position.Flushed, true)); err != nil {
		return err
	}
	s.head = to
	s.countUnit() // what was passed on the way
	s.undurable, s.lastDurable, s.lastCheck = false, s.now(), s.now()
	s.mark = flushMark{}
	s.notes.durable, s.notes.due = s.head, true
	return nil
}
