package ship

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// What the queue keeps for a subscription is what lies behind
// subscription_state.durable_position, a copy of the target's progress that only
// moves to what is flushed there. A target that is at or past it misses nothing.
// One that is behind it was restored from a backup: it may miss what the queue no
// longer has, and must not go on as if that were nothing.

// hold is what the source says about that.
type hold struct {
	durable   *change.Position // nil: none yet
	text      string           // the same as it is written there
	removed   uint64           // highest transaction ever removed from the queue
	detached  bool             // something behind durable may have been removed
	unheld    bool             // nothing is kept at present
	lastError session.Error    // why
}

func loadHold(ctx context.Context, s session.Session, sub *Subscription) (*hold, error) {
	rows, err := s.Query(ctx, `SELECT t.durable_position, coalesce(t.durable_position, s.start_position::pg_catalog.text),
		coalesce(c.truncated_xid::pg_catalog.text, '0'), t.detached_at IS NOT NULL, coalesce(t.state, 'needs_resync') = 'needs_resync',
		t.last_error, t.last_error_sqlstate, t.last_error_hint
		FROM courier.subscription AS s CROSS JOIN courier.queue_current AS c
		LEFT JOIN courier.subscription_state AS t ON t.subscription_id = s.subscription_id
		WHERE s.subscription_id = $1::pg_catalog.int4`, strconv.Itoa(sub.ID))
	if err == nil && len(rows) == 0 {
		err = errReplaced
	}
	if err != nil {
		return nil, fmt.Errorf("ask what the queue keeps for subscription %s: %w", sub.Name, err)
	}
	row := rows[0]
	h := &hold{text: string(row[0]), detached: string(row[3]) == "t", unheld: string(row[4]) == "t",
		lastError: session.Error{Message: string(row[5]), SQLState: string(row[6]), Hint: string(row[7])}}
	if h.removed, err = strconv.ParseUint(string(row[2]), 10, 64); err != nil {
		return nil, fmt.Errorf("ask what the queue keeps for subscription %s: %w", sub.Name, err)
	}
	if row[1] != nil {
		position, err := change.ParsePosition(string(row[1]))
		if err != nil {
			return nil, fmt.Errorf("ask what the queue keeps for subscription %s: %w", sub.Name, err)
		}
		h.durable = &position
	}
	return h, nil
}

// requireQueued makes sure that the queue has, and keeps, everything behind the
// target's progress. It runs when a shipper attaches; from then on
// queue.ErrNotHeld says when that is no longer so.
func (s *Shipper) requireQueued(ctx context.Context, link *dblink.Link) error {
	h, err := loadHold(ctx, s.session, s.sub)
	if err != nil {
		return err
	}
	s.notes.durable, s.notes.held = "", h.text
	switch {
	case h.detached:
		return s.detachedStop(h)
	case s.position == nil: // a copy brings all that is committed when it begins
		if !h.unheld {
			return nil
		}
		return s.holdQueue(ctx, nil)
	case !h.unheld && h.durable != nil && s.position.Covers(*h.durable):
		return nil
	case !s.hasAll(h.removed):
		return s.lostStop()
	}
	// What the target says need not be flushed there.
	if err = link.Exec(ctx, s.advance(s.head, change.WAL{}, true)); err != nil {
		return err
	}
	return s.holdQueue(ctx, &s.head)
}

// hasAll reports whether the queue was never without anything behind the target's
// position: the highest transaction removed is one that the position has for sure.
func (s *Shipper) hasAll(removed uint64) bool { return removed < s.position.Start.Xmin }

// holdQueue has the queue keep what is behind a position, nil for the present one.
func (s *Shipper) holdQueue(ctx context.Context, head *string) error {
	var position any
	if head != nil {
		position = *head
	}
	if _, err := s.session.Query(ctx, "SELECT courier.hold_queue($1::pg_catalog.int4, $2)", strconv.Itoa(s.sub.ID), position); err != nil {
		return fmt.Errorf("have the queue kept for subscription %s: %w", s.name, err)
	}
	// What was removed before that, and what was not, is certain from here on.
	h, err := loadHold(ctx, s.session, s.sub)
	if err != nil {
		return err
	}
	s.notes.held = h.text
	if h.detached {
		return s.detachedStop(h)
	}
	if head != nil && !s.hasAll(h.removed) {
		return s.lostStop()
	}
	if head != nil {
		s.log.Warn("the node is behind what it had confirmed; shipping again from there", "subscription", s.name,
			"node", s.sub.Node, "position", s.head)
	}
	return nil
}

// detachedStop says what was written down when the subscription was detached.
func (s *Shipper) detachedStop(h *hold) error {
	err := h.lastError
	if err.Message == "" {
		err = session.Error{SQLState: "55000", Message: "the queue no longer has what it has not confirmed"}
	}
	return &StopError{Subscription: s.name, Node: s.sub.Node, NeedsResync: true, Err: &err, Advice: err.Hint}
}

func (s *Shipper) lostStop() error {
	return &StopError{Subscription: s.name, Node: s.sub.Node, NeedsResync: true,
		Advice: fmt.Sprintf("The node was probably restored from an older backup. Drop the subscription, empty its tables on node %s, and create it again with copy_data => true.", s.sub.Node),
		Err:    &session.Error{SQLState: "55000", Message: "the queue no longer has what follows the node's progress"}}
}
