package ship

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// noteEvery is how often the source's copy of the progress is written while
// changes flow.
const noteEvery = time.Second

// notes is what the source was last told in courier.subscription_state.
type notes struct {
	due     bool // something has changed since
	paused  bool // the session reads in the past and can't write
	at      time.Time
	shipped int64
	durable string // position known to be flushed on the target
}

// writeNote writes the source's copy of the progress: about once a second, and
// whenever there is nothing more to do (idle). The progress row on the target
// remains the authority.
func (s *Shipper) writeNote(ctx context.Context, idle bool) error {
	if !s.notes.due || s.notes.paused || (!idle && s.now().Sub(s.notes.at) < noteEvery) {
		return nil
	}
	_, err := s.session.Query(ctx, `INSERT INTO courier.subscription_state AS t
		(subscription_id, state, position, durable_position, shipped, shipper, updated_at)
		VALUES ($1::pg_catalog.int4, 'streaming', $2, nullif($3, ''), $4::pg_catalog.int8, $5, pg_catalog.clock_timestamp())
		ON CONFLICT (subscription_id) DO UPDATE SET state = excluded.state, position = excluded.position,
		durable_position = coalesce(excluded.durable_position, t.durable_position),
		shipped = t.shipped + excluded.shipped, shipper = excluded.shipper, updated_at = excluded.updated_at,
		last_error = NULL, last_error_sqlstate = NULL, last_error_hint = NULL, next_retry_at = NULL`,
		strconv.Itoa(s.sub.ID), s.position.String(), s.notes.durable,
		strconv.FormatInt(s.shipped-s.notes.shipped, 10), s.kind)
	if err != nil {
		return fmt.Errorf("note the progress of subscription %s: %w", s.name, err)
	}
	s.notes.due, s.notes.at, s.notes.shipped = false, s.now(), s.shipped
	return nil
}
