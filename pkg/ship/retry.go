package ship

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// retryLetters applies the letters that are to be retried, in their order, each
// in one target transaction between two units. Whatever the target says against
// one is told to the person who asked, in the letter; shipping goes on.
func (s *Shipper) retryLetters(ctx context.Context) error {
	if s.copying.due() && len(s.copying.pending) > 0 {
		return nil // a copy begins at once, which wants its tables empty
	}
	for _, l := range s.letters.all {
		if l.state != letterRetrying {
			continue
		}
		if older := s.olderLetter(l); older != nil {
			err := s.reopen(ctx, l, &session.Error{SQLState: "55000",
				Message: fmt.Sprintf("dead letter %d changed the same row before it and has not been settled", older.id),
				Hint:    fmt.Sprintf("Retry or discard %d first.", older.id)}, nil)
			if err != nil {
				return err
			}
			continue
		}
		if err := s.retry(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// olderLetter finds a letter that has to be settled before this one.
func (s *Shipper) olderLetter(l *letter) *letter {
	for _, key := range l.keys {
		for _, other := range s.letters.index.tables[key.relation] {
			o := other.letter
			if o.place.before(l.place) && o.inForce && (other.id == key.id || other.whole || key.whole) {
				return o
			}
		}
	}
	return nil
}

// retry applies one letter.
func (s *Shipper) retry(ctx context.Context, l *letter) error {
	changes, err := s.readLetter(ctx, l)
	var refused *session.Error
	if errors.As(err, &refused) && refused.SQLState == "55000" {
		return s.reopen(ctx, l, refused, nil)
	}
	if err != nil {
		return err
	}
	if table := s.unsent(changes); table != nil {
		if s.copying.pending[table.OID] {
			return nil // it waits for the copy
		}
		return s.reopen(ctx, l, &session.Error{SQLState: "55000",
			Message: fmt.Sprintf("the copy of table %s.%s was cancelled, and nothing of the table is sent", table.Schema, table.Name),
			Hint: fmt.Sprintf("Run SELECT courier.alter_subscription_resynchronize_table(%s, %s), then retry the letter; or retry it with other changes, or discard it.",
				literal(s.name), literal(identifier(table.Schema)+"."+identifier(table.Name)))}, nil)
	}
	kept, leftOut := s.withoutOvertaken(l, changes)
	p, err := s.renderRetry(ctx, l, kept, leftOut)
	applied := false
	defer func() {
		if !applied {
			giveUp(p.tells)
		}
	}()
	if err != nil {
		return s.refuseRetry(ctx, l, &failure{piece: p, completed: -1, err: err})
	}
	sent := s.now()
	if err = s.link.Send(ctx, p.script.Bytes()); err != nil {
		return err
	}
	outcome, err := s.link.Wait(ctx)
	if err != nil {
		return err
	}
	if outcome.Err != nil {
		class := dblink.Classify(outcome.Err)
		if class == dblink.Unknown || class == dblink.Transient && strings.HasPrefix(outcome.Err.SQLState, "40") {
			return outcome.Err // tried again soon
		}
		return s.refuseRetry(ctx, l, &failure{piece: p, completed: outcome.Completed, err: outcome.Err, verbatim: outcome.Verbatim})
	}
	applied = true
	s.countLetter(p, &outcome, s.now().Sub(sent))
	return s.markApplied(ctx, l, strconv.Itoa(len(kept)), strconv.Itoa(leftOut))
}

// unsent finds a table of changes that the target has yet to get a copy of, or that is
// not to have one.
func (s *Shipper) unsent(changes []change.Change) *Table {
	for i := range changes {
		for _, relation := range append(changes[i].Truncated, changes[i].Relation) {
			if relation != nil && s.catalog.pending[relation.OID] {
				return s.catalog.tables[relation.OID]
			}
		}
	}
	return nil
}

// refuseRetry writes down why a letter was not applied.
func (s *Shipper) refuseRetry(ctx context.Context, l *letter, f *failure) error {
	stop := s.stopAtStatement(ctx, f)
	cause := f.verbatim
	var u *unrenderable
	if errors.As(f.err, &u) {
		if u.change != nil {
			stop.Op, stop.Key = u.change.change.Op.String(), u.key
			stop.at(u.change.change.Relation)
		}
		cause = &session.Error{SQLState: SQLState(u.err), Message: u.err.Error()}
	}
	if cause == nil {
		return f.err
	}
	stop.Advice = s.letterAdvice(f.err, stop.Table)
	return s.reopen(ctx, l, cause, stop)
}

// letterAdvice says what can be done about the error of a letter.
func (s *Shipper) letterAdvice(err error, table string) string {
	text, known := remedy(err, s.sub.Node, table)
	if known {
		return text + " Then retry the letter, or retry it with other changes."
	}
	return text
}

// withoutOvertaken leaves out changes of rows that have later values. Edited
// changes are meant as given.
func (s *Shipper) withoutOvertaken(l *letter, changes []change.Change) (kept []change.Change, leftOut int) {
	if l.edited {
		return changes, 0
	}
	overtaken := make(map[keyID]bool)
	for _, key := range l.keys {
		overtaken[key.id] = key.overtaken
	}
	for i := range changes {
		c := &changes[i]
		stale := false
		switch c.Op {
		case change.Event:
		case change.Truncate:
			stale = overtaken[wholeID(c.Truncated[0].OID)]
		default:
			for _, row := range [][]change.Value{c.Old, c.New} {
				if id, ok := rowID(c.Relation, row); ok && overtaken[id] {
					stale = true
				}
			}
		}
		if stale && c.Op == change.Update && c.Old != nil && c.Relation.HasKey() {
			// The row has moved, and its new place has later values. Nothing
			// is to stay at the old one.
			if id, _ := rowID(c.Relation, c.Old); !overtaken[id] {
				c.Op, c.New, stale = change.Delete, nil, false
			}
		}
		if stale {
			leftOut++
			continue
		}
		kept = append(kept, *c)
	}
	return kept, leftOut
}

// renderRetry writes a letter's changes row by row, behind the proof that nobody
// else ships and the note that the letter is applied.
func (s *Shipper) renderRetry(ctx context.Context, l *letter, changes []change.Change, leftOut int) (*piece, error) {
	p := &piece{rows: true, places: []place{l.place}, counts: newCounts()}
	p.unit = p
	relations := make(map[*change.Relation]bool)
	s.changes = s.changes[:0]
	for _, c := range changes {
		p.countChange(&c)
		for _, relation := range append(c.Truncated, c.Relation) {
			if relation != nil && c.Restart {
				s.sequences.restarted(relation.OID)
			}
			if relation != nil {
				relations[relation] = true
			}
		}
		s.addNumbered(c, 0)
	}
	if names := s.catalog.unknown(relations); len(names) > 0 {
		if err := s.catalog.loadRemoteTables(ctx, s.link, names); err != nil {
			return p, err
		}
	}
	// not nextScript(): a rendered unit may wait to be sent
	p.script = &render.Script{}
	p.script.Append(s.advance(s.head, change.WAL{}, true))
	p.script.Append(fmt.Sprintf("SELECT courier_target.retry('%s', '%s', '%d', %d, %d)",
		s.sub.ProgressKey, l.place.k, l.place.xid, len(changes), leftOut))
	if !s.link.Replica { // the source may have deferred them
		p.script.Append("SET CONSTRAINTS ALL DEFERRED")
	}
	p.own = len(p.script.Statements())
	err := s.renderRows(p, lookup{s.catalog, ctx}, s.renderOptions())
	s.appendTells(p)
	for relation := range relations {
		delete(s.catalog.targets, relation)
	}
	return p, err
}
