package ship

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// maxAttempts bounds how often Drain goes on by itself after errors that have
// nothing to do with the data.
const maxAttempts = 4

// failure is a piece that the target did not take.
type failure struct {
	piece     *piece
	completed int // its statements that had succeeded; -1 when not known
	err       error
	verbatim  *session.Error // the same with values of rows, or nil
}

// Error implements error.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// FromNode reports whether err is the node's answer to what was sent there.
func FromNode(err error) bool {
	var f *failure
	return errors.As(err, &f)
}

// unrenderable is a piece of which a change can't be written as SQL, or is not
// known to be wanted.
type unrenderable struct {
	piece  *piece
	change *numbered // nil if it is not known which
	key    string
	err    error
}

// unfit marks an error of rendering a change as one about the change.
func unfit(p *piece, change *numbered, key string, err error) error {
	var drift *render.DriftError
	var noKey *render.NoKeyError
	var unfiltered *unfilteredError
	if errors.As(err, &drift) || errors.As(err, &noKey) || errors.As(err, &unfiltered) {
		return &unrenderable{piece: p, change: change, key: key, err: err}
	}
	return err
}

// Error implements error.
func (u *unrenderable) Error() string { return u.err.Error() }

// Unwrap returns the cause.
func (u *unrenderable) Unwrap() error { return u.err }

// recover decides what follows an error of drain: nil means go on, from what
// the target's progress says.
func (s *Shipper) recover(ctx context.Context, err error, attempt int) error {
	var f *failure
	if errors.As(err, &f) && (f.completed < 0 || dblink.Classify(f.err) == dblink.Unknown) {
		s.inDoubt(f.piece)
	}
	var stop *StopError
	if errors.As(err, &stop) || errors.As(err, new(*UncommittedError)) || s.link == nil || s.sessionClosed() {
		return err // not attached, or no session to go on with: the caller's matter
	}
	if errors.Is(err, errReplaced) {
		s.locked = false // the lock is on the old one's number
		return err
	}
	var u *unrenderable
	if errors.As(err, &u) {
		if err = s.afterUnrenderable(u); err != nil && !(u.change.change.Relation != nil && s.leave(u.change.change.Relation.OID, err)) {
			return err
		}
		s.detach(ctx)
		return nil
	}
	if f == nil {
		if dblink.Classify(err) == dblink.Unknown && attempt < maxAttempts && !errors.Is(err, context.Canceled) {
			s.detach(ctx)
			return nil
		}
		return err
	}

	class := dblink.Classify(f.err)
	if f.tellAt() != nil && class != dblink.Unknown && class != dblink.Transient {
		// no row is at fault, and perhaps only the picture of the sequences is old
		if s.schema++; s.schema > 1 {
			return s.stopAtSequence(f)
		}
		s.detach(ctx)
		return nil
	}
	if f.piece.command != nil && (class == dblink.Data || class == dblink.Schema || usedByItself(f.err)) {
		if err = s.afterCommand(ctx, f); err == nil {
			s.detach(ctx)
		}
		return err
	}
	switch class {
	case dblink.Unknown:
		if attempt >= maxAttempts {
			return s.explainConnect(err)
		}
		s.log.Warn("connection lost, asking the node for its progress", "subscription", s.name,
			"node", s.sub.Node, "sqlstate", session.SQLState(f.err))
	case dblink.Transient:
		// A deadlock or serialization failure passes at once, others take
		// longer than this loop should.
		if state := session.SQLState(f.err); attempt >= maxAttempts || !strings.HasPrefix(state, "40") {
			return err
		}
	case dblink.Data:
		if s.narrow(f) {
			break
		}
		if s.leaveFailing(f) || s.postpone(ctx, f) {
			break
		}
		stop := s.stopAtStatement(ctx, f)
		if s.deferred != nil { // what it says row by row names the row
			stop, s.deferred = s.deferred, nil
		}
		if f.piece.pass != nil || !s.sub.Options.setsAside() && !s.letters.skips(place{stop.K, stop.XID}) {
			s.countRefused(f, stop)
			return stop
		}
		if err = s.setAside(ctx, f, stop); err != nil {
			return err
		}
		s.countRefused(f, stop)
	case dblink.Schema:
		// the first time only the shipper's picture of the tables may be old
		if s.schema++; s.schema > 1 && !s.narrow(f) && !s.leaveFailing(f) {
			return s.stopAtStatement(ctx, f)
		}
	case dblink.Fatal:
		if errors.Is(f.err, context.Canceled) {
			return err
		}
		return s.stopAtStatement(ctx, f)
	default:
		return err
	}
	s.detach(ctx)
	return nil
}

// usedByItself reports whether a command failed because its own transaction
// uses the table: a constraint that is checked by the commit waits for it.
func usedByItself(err error) bool { return session.SQLState(err) == "55006" }

// sessionClosed says that a session to the source has ended, if it can.
func (s *Shipper) sessionClosed() bool {
	for _, each := range []session.Session{s.session, s.reader} {
		if closer, ok := each.(interface{ Closed() bool }); ok && closer.Closed() {
			return true
		}
	}
	return false
}

// narrow makes the next unit smaller or slower, to find the transaction at
// fault: a set-based one is shipped again row by row, a row-by-row one up to the
// transaction at fault. False says that it is found: the unit's first one.
func (s *Shipper) narrow(f *failure) bool {
	p, unit := f.piece, f.piece.unit
	if p.pass != nil || s.deferred != nil {
		return false
	}
	if !p.rows {
		s.slowDown(p, f.err)
		return true
	}
	if len(unit.places) == 1 {
		return false
	}
	switch statement := p.statement(f.completed); {
	case p != unit: // in the transaction that is streamed, the unit's last
		s.limit = len(unit.places) - 1
	case statement == nil || f.completed == len(p.script.Statements())-1:
		// perhaps a deferred constraint, raised by the commit: any may be at fault
		s.limit = len(unit.places) / 2
	case statement.Tx == 0:
		return false // nothing of those behind it has run
	default:
		s.limit = statement.Tx
	}
	return true
}

// postpone has the transaction at fault shipped twice more, closer to how it was on the
// source: with those constraints checked at its end that can be, which it may have
// deferred, and with several changes as one statement, for a statement may write rows
// that refer to each other, or a row anew that others refer to. First its net effect,
// then neighbouring changes of a kind and a table.
func (s *Shipper) postpone(ctx context.Context, f *failure) bool {
	at := f.piece.places[0]
	switch {
	case s.link.Replica || f.piece.pass != nil || !strings.HasPrefix(session.SQLState(f.err), "23"):
		return false
	case s.deferred == nil:
		s.deferred, s.runs = s.stopAtStatement(ctx, f), false
		s.deferred.XID, s.deferred.K = at.xid, at.k
		s.limit = 1
		return true
	case !s.runs:
		s.runs = true
		return true
	}
	return false
}

// slowDown lets a unit be shipped again row by row. That is nothing to tell an
// operator: keys that swap owners do it to any batch.
func (s *Shipper) slowDown(p *piece, err error) {
	s.slowUntil = p.unit.places[len(p.unit.places)-1]
	s.log.Debug("shipping a batch row by row", "subscription", s.name, "node", s.sub.Node,
		"changes", p.shipped, "sqlstate", SQLState(err))
}

// afterUnrenderable narrows down as narrow does; what a change is at fault is
// known when it is written row by row.
func (s *Shipper) afterUnrenderable(u *unrenderable) error {
	p, unit := u.piece, u.piece.unit
	switch {
	case u.change == nil:
		s.slowDown(p, u.err)
		return nil
	case p != unit && len(unit.places) > 1:
		s.limit = len(unit.places) - 1
		return nil
	case u.change.tx > 0:
		s.limit = u.change.tx
		return nil
	}
	var drift *render.DriftError
	at := p.places[0]
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, XID: at.xid, K: at.k, Err: u.err, Advice: Hint(u.err),
		Op: u.change.change.Op.String(), Key: u.key}
	if stop.at(u.change.change.Relation); stop.Table == "" && errors.As(u.err, &drift) {
		stop.Table, stop.Schema, stop.Name = drift.Schema+"."+drift.Table, drift.Schema, drift.Table
	}
	return stop
}

// stopAtStatement reports the statement that failed.
func (s *Shipper) stopAtStatement(ctx context.Context, f *failure) *StopError {
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, Err: f.err}
	stop.XID, stop.K = f.piece.places[0].xid, f.piece.places[0].k
	if statement := f.piece.statement(f.completed); statement != nil {
		at := f.piece.places[min(statement.Tx, len(f.piece.places)-1)]
		stop.XID, stop.K = at.xid, at.k
		stop.Op = statement.Op.String()
		stop.at(statement.Relation)
		if statement.Change >= 0 && statement.Change < len(f.piece.keys) {
			stop.Key = f.piece.keys[statement.Change]
		}
	}
	stop.Advice = s.advice(f.err, stop.Table)
	if session.SQLState(f.err) == "23503" {
		stop.Advice = s.copyWithParent(stop.Table) + stop.Advice
	}
	if stop.Op == change.Truncate.String() && session.SQLState(f.err) == "0A000" {
		stop.Advice = fmt.Sprintf("A table on node %s that the source did not truncate refers to table %s: drop that foreign key there. Shipping then goes on by itself.",
			stop.Node, stop.Table)
	}
	s.explainRefusal(ctx, stop)
	if dblink.Classify(f.err) == dblink.Data && stop.XID != 0 {
		stop.Advice += fmt.Sprintf(" Or pass the transaction: SELECT courier.skip_transaction(%s, '%d').", literal(s.name), stop.XID)
	}
	return stop
}

// advice says what a stopped subscription needs.
func (s *Shipper) advice(err error, table string) string {
	text, known := remedy(err, s.sub.Node, table)
	if known {
		return text + " Shipping then goes on by itself."
	}
	return text
}

// remedy says what can be done about an error of the target; known is false if
// that is no more than what the error says itself.
func remedy(err error, node, table string) (text string, known bool) {
	state := session.SQLState(err)
	switch {
	case state == "23505":
		text = fmt.Sprintf("Node %s holds a row that conflicts with this one in table %s; remove or change it there.", node, table)
	case state == "23503":
		text = fmt.Sprintf("A foreign key of table %s on node %s is not satisfied there; add the missing row or drop the key there.", table, node)
	case strings.HasPrefix(state, "23"):
		text = fmt.Sprintf("A constraint of table %s on node %s does not hold for this row; change the constraint or the row.", table, node)
	case state == dblink.StateMissing:
		text = fmt.Sprintf("Insert the missing row into table %s on node %s, or set the subscription's option on_conflict.", table, node)
	case state == "42501":
		text = fmt.Sprintf("Grant the role that pg_courier connects as on node %s the privilege it lacks (BYPASSRLS, if row-level security is what it met).", node)
	case strings.HasPrefix(state, "42"):
		text = fmt.Sprintf("Make table %s on node %s like the source's.", table, node)
	case state == "22P05" || state == "22021": // untranslatable_character, character_not_in_repertoire
		text = fmt.Sprintf("The database on node %s has another encoding, which can't hold a character of the row; change the row, or make that database anew with this one's encoding.", node)
	case strings.HasPrefix(state, "22"):
		text = fmt.Sprintf("A column of table %s on node %s can't hold the value; compare its types with the source's.", table, node)
	}
	if text != "" {
		return text, true
	}
	if hint := Hint(err); hint != "" {
		return hint, false
	}
	return "Find the cause in the message, then ship again.", false
}

// keyText names a change's key for a message: keys may appear, rows may not.
func keyText(c *change.Change) string {
	if c.Relation == nil || !c.Relation.HasKey() {
		return ""
	}
	row := c.Old
	if row == nil {
		row = c.New
	}
	return rowText(c.Relation, row)
}

// rowText names a row by its key.
func rowText(relation *change.Relation, row []change.Value) string {
	var b strings.Builder
	for _, i := range relation.Keys() {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(relation.Columns[i].Name + "=" + string(row[i].Data))
	}
	return b.String()
}
