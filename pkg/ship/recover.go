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

// recover decides what follows an error of drain: nil means go on, from what
// the target's progress says.
func (s *Shipper) recover(ctx context.Context, err error, attempt int) error {
	var stop *StopError
	if errors.As(err, &stop) || s.link == nil || s.sessionClosed() {
		return err // not attached, or no session to go on with: the caller's matter
	}
	if errors.Is(err, errReplaced) {
		s.locked = false // the lock is on the old one's number
		return err
	}
	var f *failure
	if !errors.As(err, &f) {
		if dblink.Classify(err) == dblink.Unknown && attempt < maxAttempts && !errors.Is(err, context.Canceled) {
			s.detach(ctx)
			return nil
		}
		return err
	}

	switch dblink.Classify(f.err) {
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
		if err = s.afterDataError(f); err != nil {
			return err
		}
	case dblink.Schema:
		if s.schema++; s.schema > 1 {
			return s.stopAtStatement(f)
		}
	default:
		return err
	}
	s.detach(ctx)
	return nil
}

// sessionClosed says that a session to the source has ended, if it can.
func (s *Shipper) sessionClosed() bool {
	for _, each := range []session.Session{s.session, s.reader} {
		if closer, ok := each.(interface{ Closed() bool }); ok && closer.Closed() {
			return true
		}
	}
	return false
}

// afterDataError makes the next unit smaller or slower: a set-based one is
// shipped again row by row, a row-by-row one up to the transaction at fault. If
// that is the first, the subscription is stopped.
func (s *Shipper) afterDataError(f *failure) error {
	p, unit := f.piece, f.piece.unit
	if !p.rows {
		s.slowUntil = unit.places[len(unit.places)-1]
		s.log.Info("shipping a batch row by row", "subscription", s.name, "node", s.sub.Node,
			"changes", p.shipped, "sqlstate", session.SQLState(f.err))
		return nil
	}
	if len(unit.places) == 1 {
		return s.stopAtStatement(f)
	}
	switch statement := p.statement(f.completed); {
	case p != unit: // in the transaction that is streamed, the unit's last
		s.limit = len(unit.places) - 1
	case statement == nil || f.completed == len(p.script.Statements())-1:
		// perhaps a deferred constraint, raised by the commit: any may be at fault
		s.limit = len(unit.places) / 2
	case statement.Tx == 0:
		s.limit = 1
	default:
		s.limit = statement.Tx
	}
	return nil
}

// stopAtStatement reports the statement that failed.
func (s *Shipper) stopAtStatement(f *failure) error {
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, Err: f.err}
	stop.XID, stop.K = f.piece.places[0].xid, f.piece.places[0].k
	if statement := f.piece.statement(f.completed); statement != nil {
		at := f.piece.places[min(statement.Tx, len(f.piece.places)-1)]
		stop.XID, stop.K = at.xid, at.k
		stop.Op = statement.Op.String()
		if statement.Relation != nil {
			stop.Table = statement.Relation.String()
		}
		if statement.Change >= 0 && statement.Change < len(f.piece.keys) {
			stop.Key = f.piece.keys[statement.Change]
		}
	}
	stop.Advice = advice(f.err, s.sub.Node, stop.Table)
	return stop
}

// stopAt reports a change that can't be written as SQL.
func (s *Shipper) stopAt(p *piece, c *numbered, err error) error {
	return s.stopUnrendered(p.places[c.tx], err)
}

// stop reports a piece that can't be written as SQL.
func (s *Shipper) stop(p *piece, err error) error {
	return s.stopUnrendered(p.places[0], err)
}

func (s *Shipper) stopUnrendered(at place, err error) error {
	var drift *render.DriftError
	var noKey *render.NoKeyError
	if !errors.As(err, &drift) && !errors.As(err, &noKey) {
		return err
	}
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, XID: at.xid, K: at.k, Err: err, Advice: Hint(err)}
	if drift != nil {
		stop.Table = drift.Schema + "." + drift.Table
		stop.Op = "changes"
	}
	return stop
}

// advice says what can be done about an error of the target.
func advice(err error, node, table string) string {
	state := session.SQLState(err)
	switch {
	case state == "23505":
		return fmt.Sprintf("Node %s holds a row that conflicts with this one in table %s; remove or change it there. Shipping then goes on by itself.", node, table)
	case state == "23503":
		return fmt.Sprintf("A foreign key of table %s on node %s is not satisfied there; add the missing row or drop the key there. Shipping then goes on by itself.", table, node)
	case strings.HasPrefix(state, "23"):
		return fmt.Sprintf("A constraint of table %s on node %s does not hold for this row; change the constraint or the row. Shipping then goes on by itself.", table, node)
	case state == dblink.StateMissing:
		return fmt.Sprintf("Insert the missing row into table %s on node %s, or set the subscription's option on_conflict. Shipping then goes on by itself.", table, node)
	case state == "42501":
		return fmt.Sprintf("Grant the role that pg_courier connects as on node %s the privilege it lacks (BYPASSRLS, if row-level security is what it met).", node)
	case strings.HasPrefix(state, "42"):
		return fmt.Sprintf("Make table %s on node %s like the source's. Shipping then goes on by itself.", table, node)
	case strings.HasPrefix(state, "22"):
		return fmt.Sprintf("A column of table %s on node %s can't hold the value; compare its types with the source's.", table, node)
	}
	if hint := Hint(err); hint != "" {
		return hint
	}
	return "Find the cause in the message, then ship again."
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
	var b strings.Builder
	for _, i := range c.Relation.Keys() {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Relation.Columns[i].Name + "=" + string(row[i].Data))
	}
	return b.String()
}
