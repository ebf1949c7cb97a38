package ship

import (
	"context"
	"fmt"
	"slices"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// A DDL command is a barrier in its transaction: what comes before it is written
// for the node's tables as they were, what comes behind it for the tables as the
// command has left them. So the unit is cut into pieces there: those before, the
// command alone, and those behind, for which the definitions are read again,
// inside the node's transaction that is still open. A command's piece never ends
// the unit: that is known when the next transaction is met.

// concerns reports whether a change is a command that the subscription takes.
func (c *cutter) concerns(ch *change.Change) bool {
	return ch.Op == change.DDL && ch.Command.Concerns(c.shipper.sub.Sets)
}

// putOff keeps a change for the pieces behind. Its rows, and what its table's row
// filters said, outlive the decoder's memory, which the next piece uses again.
func (c *cutter) putOff(ch change.Change) {
	ch.Old, ch.New, ch.Filters = slices.Clone(ch.Old), slices.Clone(ch.New), slices.Clone(ch.Filters)
	c.later = append(c.later, ch)
}

// takeUp adds what was put off to a piece, until the next command; true says that
// the piece ends there.
func (c *cutter) takeUp(p *piece, relations map[*change.Relation]bool) (ended bool, err error) {
	p.places = append(p.places, c.current)
	taker := c.taker(p, relations)
	for len(c.later) > 0 {
		ch := c.later[0]
		if c.concerns(&ch) {
			if p.shipped == 0 {
				p.command, p.shipped = ch.Command, 1
				c.later = c.later[1:]
			}
			return true, nil
		}
		if err = taker.take(&ch); err != nil {
			return false, err
		}
		c.later = c.later[1:]
	}
	c.later = nil
	return false, nil
}

// afterCommand decides what follows a command that the node refuses: those before
// its transaction are shipped alone, and then it is a person's turn. A command is
// never set aside for its error alone: what is behind it relies on it.
func (s *Shipper) afterCommand(ctx context.Context, f *failure) error {
	if unit := f.piece.unit; len(unit.places) > 1 {
		s.limit = len(unit.places) - 1
		return nil
	}
	stop := s.stopAtCommand(f)
	if !s.letters.skips(place{stop.K, stop.XID}) {
		return stop
	}
	return s.setAside(ctx, f, stop)
}

// stopAtCommand reports a command that the node refuses.
func (s *Shipper) stopAtCommand(f *failure) *StopError {
	at := f.piece.places[0]
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, Err: f.err, XID: at.xid, K: at.k,
		Op: change.DDL.String(), Key: f.piece.command.Text}
	if hint := Hint(f.err); hint != "" {
		stop.Advice = hint + " "
	} else if session.SQLState(f.err) == "42501" {
		stop.Advice = fmt.Sprintf("On node %s grant role %q what the command needs. ", s.sub.Node, f.piece.command.Role)
	}
	if s.structureDue() {
		stop.Advice += "Tables that the node lacks are created behind what is queued, as the command has left them: if it alters only such, pass it. "
	}
	stop.Advice += fmt.Sprintf("Make the command possible on node %s; shipping then goes on by itself. "+
		"Or do there by hand what the whole transaction did, and pass it: SELECT courier.skip_transaction(%s, '%d').",
		s.sub.Node, literal(s.name), at.xid)
	return stop
}

// lookAgain reads the sequences anew, before the last piece of a unit with
// commands: that piece sets those that they have made and that rows of the unit
// hold values of.
func (s *Shipper) lookAgain(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.loadSequences(ctx, s.link); err != nil {
		return err
	}
	return s.readSequences(ctx)
}

// restoreSession puts the link's settings back behind a unit with commands: one
// may have called a function that changes them for longer than its transaction.
func (s *Shipper) restoreSession(ctx context.Context, unit *piece) error {
	if !unit.commanded {
		return nil
	}
	return s.link.Configure(ctx)
}
