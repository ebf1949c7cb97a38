package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// A dead letter is a transaction that the node refuses and that is kept on the
// source instead (courier.dead_letter_entry). The two databases agree on it in
// three steps, each of which may be the last one before a crash:
//
//  1. the letter is stored on the source, pending, and on disk there;
//  2. a unit on the target moves the progress behind the transaction, applies
//     nothing of it, and adds a row to courier_target.letter;
//  3. the letter is marked open on the source.
//
// The row on the target says what became of a pending letter: if it is there,
// the letter is open; if not, the transaction was not passed, and is tried again
// as if there were no letter. Progress alone would not tell, since the
// transaction may have been applied after all.
//
// Where the session's transaction is the caller's (courier.ship), step 1 is done
// only when that has committed. So a call that stores a letter ends there, and
// the next one takes step 2.

// States of a letter.
const (
	letterPending   = "pending"
	letterOpen      = "open"
	letterSkipping  = "skipping"
	letterSkipped   = "skipped"
	letterRetrying  = "retrying"
	letterApplied   = "applied"
	letterDiscarded = "discarded"
)

// letter is a dead letter as far as shipping goes by it.
type letter struct {
	id     int64
	place  place
	state  string
	edited bool // other changes are to be sent in place of its own
	filled bool // its changes have been read from the queue
	own    bool // stored by the session's transaction, which has not committed
	tried  bool // to be skipped if the target refuses it
	// settled says that the target knows that it was applied or discarded.
	settled bool
	keys    []*letterKey

	// inForce says that transactions applied from now on come after it.
	inForce bool
}

// letters is what a shipper knows of its subscription's dead letters.
type letters struct {
	generation int64 // of the configuration when they were read; 0: not read
	looked     time.Time
	all        []*letter // by place
	passing    map[place]*letter
	index      keyIndex
}

// forget makes the letters be read again, and what is passed be passed again
// unless the target says otherwise.
func (l *letters) forget() {
	l.generation = 0
	for _, each := range l.passing {
		each.inForce = false
	}
}

// letterEvery is how often the configuration is looked at inside of an interval.
const letterEvery = time.Second

// glanceAtLetters sees, between two units, whether somebody wants a letter
// retried: an interval with a long backlog may take hours.
func (s *Shipper) glanceAtLetters(ctx context.Context) error {
	now := s.now()
	if s.notes.paused || now.Sub(s.letters.looked) < letterEvery {
		return nil
	}
	s.letters.looked = now
	text, _, err := session.Value(ctx, s.session, "SELECT generation FROM courier.configuration")
	if err != nil {
		return fmt.Errorf("look at the configuration: %w", err)
	}
	generation, err := strconv.ParseInt(text, 10, 64)
	if err != nil || generation == s.letters.generation {
		return err
	}
	return s.mindLetters(ctx, generation)
}

// mindLetters reads the subscription's letters, finishes what another shipper
// left unfinished, and retries those that are to be retried. Nothing may be in
// flight. The generation is one of the configuration from before the call.
func (s *Shipper) mindLetters(ctx context.Context, generation int64) error {
	if s.position == nil || s.notes.paused || s.letters.generation == generation {
		return nil
	}
	if err := s.loadLetters(ctx); err != nil {
		return err
	}
	marks, err := s.loadMarks(ctx)
	if err != nil {
		return err
	}
	if err = s.rebuildLost(ctx, marks); err != nil {
		return err
	}
	if err = s.settleLetters(ctx, marks); err != nil {
		return err
	}
	if err = s.loadKeys(ctx); err != nil {
		return err
	}
	if err = s.retryLetters(ctx); err != nil {
		return err
	}
	s.letters.generation, s.letters.looked = generation, s.now()
	return nil
}

func (s *Shipper) loadLetters(ctx context.Context) error {
	rows, err := s.session.Query(ctx, `SELECT dead_letter_id, k, xid, state, edited IS NOT NULL, change_count IS NOT NULL,
		stored_by = pg_catalog.pg_current_xact_id_if_assigned(), error IS NULL, settled
		FROM courier.dead_letter_entry WHERE subscription_id = $1::pg_catalog.int4`, strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("read the dead letters of %s: %w", s.name, err)
	}
	s.letters.all = nil
	for _, row := range rows {
		id, err1 := strconv.ParseInt(string(row[0]), 10, 64)
		at, err2 := parsePlace(row[1], row[2])
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read the dead letters of %s: %w", s.name, err)
		}
		l := s.letters.passing[at]
		if l == nil {
			l = &letter{}
		}
		l.id, l.place, l.state = id, at, string(row[3])
		l.edited, l.filled = string(row[4]) == "t", string(row[5]) == "t"
		l.own = s.inTransaction && string(row[6]) == "t"
		l.tried, l.settled = string(row[7]) == "t", string(row[8]) == "t"
		s.letters.all = append(s.letters.all, l)
	}
	slices.SortFunc(s.letters.all, func(a, b *letter) int {
		return cmp.Or(cmp.Compare(a.place.k, b.place.k), cmp.Compare(a.place.xid, b.place.xid))
	})
	return nil
}

func parsePlace(k, xid []byte) (place, error) {
	lsn, err1 := change.ParseLSN(string(k))
	x, err2 := strconv.ParseUint(string(xid), 10, 64)
	return place{lsn, x}, errors.Join(err1, err2)
}

// mark is a row of courier_target.letter: the transaction was passed.
type mark struct {
	applied, leftOut string // of the retry that has succeeded, or ""
	discarded        bool
}

func (s *Shipper) loadMarks(ctx context.Context) (map[place]mark, error) {
	rows, err := s.link.Query(ctx, "SELECT k, xid, applied, left_out, discarded FROM courier_target.letter WHERE subscription = "+
		literal(s.sub.ProgressKey), 5)
	if err != nil {
		return nil, err
	}
	marks := make(map[place]mark, len(rows))
	for _, row := range rows {
		at, err := parsePlace(row[0], row[1])
		if err != nil {
			return nil, fmt.Errorf("read the letters on node %s: %w", s.sub.Node, err)
		}
		marks[at] = mark{string(row[2]), string(row[3]), string(row[4]) == "t"}
	}
	return marks, nil
}

// rebuildLost makes a letter of each transaction that was passed and that the
// source knows nothing of: it has been restored, or a standby was promoted that
// lacked the last transactions.
func (s *Shipper) rebuildLost(ctx context.Context, marks map[place]mark) error {
	known := make(map[place]bool, len(s.letters.all))
	for _, l := range s.letters.all {
		known[l.place] = true
	}
	lost := false
	for at, m := range marks {
		if known[at] || m.applied != "" || m.discarded {
			continue
		}
		lost = true
		s.log.Warn("a dead letter is missing on the source and is stored again", "subscription", s.name,
			"node", s.sub.Node, "xid", at.xid)
		if _, err := s.session.Query(ctx, `INSERT INTO courier.dead_letter_entry (subscription_id, k, xid, state, error, error_sqlstate)
			VALUES ($1::pg_catalog.int4, $2::pg_catalog.pg_lsn, $3::pg_catalog.xid8, 'pending',
			        'this database has lost the dead letter and made it anew from the queue', '55000')`,
			strconv.Itoa(s.sub.ID), at.k.String(), strconv.FormatUint(at.xid, 10)); err != nil {
			return fmt.Errorf("store the lost dead letter of transaction %d: %w", at.xid, err)
		}
	}
	if !lost {
		return nil
	}
	return s.loadLetters(ctx)
}

// settleLetters brings every letter to the state that follows from the target's.
func (s *Shipper) settleLetters(ctx context.Context, marks map[place]mark) error {
	passing := s.letters.passing
	s.letters.passing = make(map[place]*letter)
	kept := s.letters.all[:0]
	for _, l := range s.letters.all {
		m, marked := marks[l.place]
		keep, err := true, error(nil)
		if marked {
			err = s.settleMarked(ctx, l, m)
		} else {
			keep, err = s.settleUnmarked(ctx, l, passing[l.place] != nil)
		}
		if err != nil {
			return err
		}
		if keep {
			kept = append(kept, l)
		}
	}
	s.letters.all = kept
	return nil
}

// settleMarked finishes a letter whose transaction was passed.
func (s *Shipper) settleMarked(ctx context.Context, l *letter, m mark) error {
	switch {
	case l.state == letterPending, l.state == letterSkipping:
		if !l.filled {
			if err := s.fillLetter(ctx, l); err != nil {
				return err
			}
		}
		return s.markPassed(ctx, l)
	case l.state == letterRetrying && m.applied != "":
		return s.markApplied(ctx, l, m.applied, m.leftOut)
	case l.state == letterDiscarded:
		return s.settleDiscarded(ctx, l, !m.discarded)
	case l.state == letterApplied && m.applied == "":
		return s.reopen(ctx, l, &session.Error{SQLState: "55000",
			Message: "the node was restored to a state before this dead letter was applied",
			Hint:    "Retry it again."}, nil)
	}
	return nil
}

// settleDiscarded tells the target, if it has the letter and does not know, that
// it was given up.
func (s *Shipper) settleDiscarded(ctx context.Context, l *letter, tell bool) error {
	if tell {
		if err := s.link.Exec(ctx, fmt.Sprintf(`UPDATE courier_target.letter SET discarded = true
			WHERE (subscription, k, xid) = ('%s', '%s', '%d')`, s.sub.ProgressKey, l.place.k, l.place.xid)); err != nil {
			return err
		}
	}
	if l.settled {
		return nil
	}
	l.settled = true
	return s.changeLetter(ctx, l, "UPDATE courier.dead_letter_entry SET settled = true WHERE dead_letter_id = $1::pg_catalog.int8")
}

// settleUnmarked decides about a letter whose transaction was not passed; mine
// says that this shipper has stored it to pass it next.
func (s *Shipper) settleUnmarked(ctx context.Context, l *letter, mine bool) (keep bool, err error) {
	behind := passed(s.position, l.place)
	switch {
	case l.state == letterPending && !behind && mine:
		s.letters.passing[l.place] = l
		return true, nil
	case l.state == letterPending && !behind && s.inTransaction:
		return true, nil // passed if the transaction fails again
	case l.state == letterPending:
		return false, s.removeLetter(ctx, l)
	case l.state == letterSkipping && behind:
		s.log.Info("the transaction to be skipped had arrived", "subscription", s.name, "xid", l.place.xid)
		return false, s.removeLetter(ctx, l)
	case l.state == letterSkipping && (l.own || l.tried):
		return true, nil // to be passed when the caller has committed, or after another try
	case l.state == letterSkipping:
		s.letters.passing[l.place] = l
		if l.filled {
			return true, nil
		}
		return true, s.fillLetter(ctx, l)
	case !behind:
		s.log.Warn("the node was restored to a state before a dead letter; its transaction is sent again",
			"subscription", s.name, "node", s.sub.Node, "xid", l.place.xid, "dead_letter", l.id)
		return false, s.removeLetter(ctx, l)
	case l.state == letterDiscarded:
		return true, s.settleDiscarded(ctx, l, false)
	}
	return true, nil
}

// passed reports whether a position is behind a transaction.
func passed(p *change.Position, at place) bool {
	if p.Start.Visible(at.xid) {
		return true
	}
	return p.End != nil && p.End.Visible(at.xid) && !(place{p.K, p.XID}).before(at)
}

// skips reports whether a person wants a transaction passed if it is refused.
func (l *letters) skips(at place) bool {
	return slices.ContainsFunc(l.all, func(each *letter) bool {
		return each.place == at && each.state == letterSkipping && !each.own
	})
}

func (s *Shipper) removeLetter(ctx context.Context, l *letter) error {
	return s.changeLetter(ctx, l, "DELETE FROM courier.dead_letter_entry WHERE dead_letter_id = $1::pg_catalog.int8")
}

// markPassed notes that the target has passed a letter's transaction.
func (s *Shipper) markPassed(ctx context.Context, l *letter) error {
	state := letterOpen
	if l.state == letterSkipping {
		state = letterSkipped
	}
	delete(s.letters.passing, l.place)
	l.state, l.inForce = state, true
	if s.notes.paused {
		s.letters.generation = 0 // the mark on the target tells later
		return nil
	}
	s.log.Warn("a transaction was set aside", "subscription", s.name, "node", s.sub.Node, "xid", l.place.xid,
		"dead_letter", l.id, "state", state)
	return s.changeLetter(ctx, l, `UPDATE courier.dead_letter_entry SET state = $2, updated_at = pg_catalog.clock_timestamp()
		WHERE dead_letter_id = $1::pg_catalog.int8`, state)
}

// markApplied notes that the target has applied a letter.
func (s *Shipper) markApplied(ctx context.Context, l *letter, applied, leftOut string) error {
	l.state, l.inForce = letterApplied, false
	s.log.Info("a dead letter was applied", "subscription", s.name, "node", s.sub.Node, "xid", l.place.xid,
		"dead_letter", l.id, "applied", applied, "left_out", leftOut)
	return s.changeLetter(ctx, l, `UPDATE courier.dead_letter_entry SET state = 'applied', settled = true, applied_changes = $2::pg_catalog.int8,
		left_out_changes = $3::pg_catalog.int8, updated_at = pg_catalog.clock_timestamp()
		WHERE dead_letter_id = $1::pg_catalog.int8`, applied, leftOut)
}

// reopen notes that a retry has failed, at a change if stop names one.
func (s *Shipper) reopen(ctx context.Context, l *letter, cause *session.Error, stop *StopError) error {
	if stop == nil {
		stop = &StopError{Advice: cause.Hint}
	}
	l.state, l.inForce = letterOpen, true
	s.log.Warn("a dead letter was refused again", "subscription", s.name, "node", s.sub.Node, "xid", l.place.xid,
		"dead_letter", l.id, "sqlstate", cause.SQLState)
	return s.changeLetter(ctx, l, `UPDATE courier.dead_letter_entry SET state = 'open', settled = false, error = $2, error_sqlstate = nullif($3, ''),
		error_detail = nullif($4, ''), error_hint = nullif($5, ''), updated_at = pg_catalog.clock_timestamp(),
		schema_name = coalesce(nullif($6, ''), schema_name), table_name = coalesce(nullif($7, ''), table_name),
		operation = coalesce(nullif($8, ''), operation), key = CASE WHEN $8 = '' THEN key ELSE nullif($9, '') END
		WHERE dead_letter_id = $1::pg_catalog.int8`,
		cause.Message, cause.SQLState, cause.Detail, stop.Advice, stop.Schema, stop.Name, stop.Op, stop.Key)
}

// changeLetter runs a statement whose $1 is the letter's number.
func (s *Shipper) changeLetter(ctx context.Context, l *letter, sql string, args ...any) error {
	if _, err := s.session.Query(ctx, sql, append([]any{strconv.FormatInt(l.id, 10)}, args...)...); err != nil {
		return fmt.Errorf("write down dead letter %d: %w", l.id, err)
	}
	return nil
}
