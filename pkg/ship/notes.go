package ship

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// How often the source's copy of the progress is written: in the midst of an
// interval, and at the end of one that was shipped.
const (
	noteEvery = time.Second
	noteSoon  = 250 * time.Millisecond
)

// notes is what the source was last told in courier.subscription_state.
type notes struct {
	due     bool // something has changed since
	paused  bool // the session reads in the past and can't write
	at      time.Time
	counted time.Time // when statistics were written
	durable string    // position known to be flushed on the target
	held    string    // subscription_state.durable_position as this shipper knows it
}

// writeDown writes what is to be on the source: the progress, now or else about
// once a second, and what was counted, about once a second or when there is nothing
// more to do (idle).
func (s *Shipper) writeDown(ctx context.Context, now, idle bool) error {
	if err := s.writeNote(ctx, now); err != nil {
		return err
	}
	if s.notes.paused || !idle && s.now().Sub(s.notes.counted) < noteEvery {
		return nil
	}
	s.notes.counted = s.now()
	return s.writeStatistics(ctx)
}

// writeNote writes the source's copy of the progress: now, or else about once a
// second. The progress row on the target remains the authority.
func (s *Shipper) writeNote(ctx context.Context, now bool) error {
	if !s.notes.due || s.notes.paused || (!now && s.now().Sub(s.notes.at) < noteEvery) {
		return nil
	}
	// What is kept in the queue goes by durable_position. Who has attached to a target
	// that was restored has set it back: a shipper that knows nothing of it must not
	// set it forth.
	state := "streaming"
	if s.copying.unfinished() {
		state = "copying"
	}
	rows, err := s.session.Query(ctx, `INSERT INTO courier.subscription_state AS t
		(subscription_id, state, position, durable_position, shipper, updated_at)
		VALUES ($1::pg_catalog.int4, $6, $2, nullif($3, ''), $4, pg_catalog.clock_timestamp())
		ON CONFLICT (subscription_id) DO UPDATE SET state = excluded.state, position = excluded.position,
		durable_position = coalesce(excluded.durable_position, t.durable_position),
		shipper = excluded.shipper, updated_at = excluded.updated_at,
		last_error = NULL, last_error_sqlstate = NULL, last_error_hint = NULL, last_error_xid = NULL, last_error_k = NULL,
		last_error_schema = NULL, last_error_table = NULL, last_error_operation = NULL, last_error_key = NULL,
		next_retry_at = NULL
		WHERE t.detached_at IS NULL AND t.state <> 'needs_resync' AND coalesce(t.durable_position, '') = $5
		RETURNING t.durable_position`,
		strconv.Itoa(s.sub.ID), s.position.String(), s.notes.durable, s.kind, s.notes.held, state)
	if err == nil && len(rows) == 0 {
		s.detach(ctx) // attaching finds out why
		err = errMoved
	}
	if err != nil {
		return fmt.Errorf("note the progress of subscription %s: %w", s.name, err)
	}
	s.notes.held = string(rows[0][0])
	if err = s.writeSequences(ctx); err != nil {
		return err
	}
	s.notes.due, s.notes.at = false, s.now()
	return s.forgetDropped(ctx)
}

// forgetDropped lets go of dropped tables of which nothing can come any more.
func (s *Shipper) forgetDropped(ctx context.Context) error {
	if !s.catalog.hasDropped() {
		return nil
	}
	rows, err := s.session.Query(ctx, "SELECT courier.forget_settled_tables($1::pg_catalog.int4)", strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("forget the dropped tables of subscription %s: %w", s.name, err)
	}
	for _, row := range rows {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return fmt.Errorf("forget the dropped tables of subscription %s: %w", s.name, err)
		}
		delete(s.catalog.tables, uint32(oid))
	}
	return nil
}

// Report writes an error down where subscription_status shows it: stopped if a
// person must act, else retrying, with the time of the next try.
func Report(ctx context.Context, s session.Session, subscription, kind string, err error, pause time.Duration) error {
	state := "retrying"
	var stop *StopError
	at := StopError{}
	if errors.As(err, &stop) {
		state, at = "stopped", *stop
		if stop.NeedsResync {
			state = "needs_resync"
		}
	}
	_, reportErr := s.Query(ctx, `UPDATE courier.subscription_state AS t
		SET state = $2, last_error = $3, last_error_sqlstate = nullif($4, ''), last_error_hint = nullif($5, ''),
		    last_error_xid = nullif($8, '0')::pg_catalog.xid8, last_error_k = nullif($9, '0/0')::pg_catalog.pg_lsn,
		    last_error_schema = nullif($10, '')::pg_catalog.name, last_error_table = nullif($11, '')::pg_catalog.name,
		    last_error_operation = nullif($12, ''), last_error_key = nullif($13, ''),
		    next_retry_at = pg_catalog.clock_timestamp() + $6::pg_catalog.interval, shipper = $7,
		    updated_at = pg_catalog.clock_timestamp()
		FROM courier.subscription s
		WHERE s.subscription_id = t.subscription_id AND s.subscription_name = $1 AND t.detached_at IS NULL`,
		subscription, state, err.Error(), SQLState(err), Hint(err),
		strconv.FormatInt(pause.Milliseconds(), 10)+" milliseconds", kind,
		strconv.FormatUint(at.XID, 10), at.K.String(), at.Schema, at.Name, at.Op, at.Key)
	if reportErr != nil {
		return fmt.Errorf("write down an error of subscription %s: %w", subscription, reportErr)
	}
	return nil
}
