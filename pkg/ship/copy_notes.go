package ship

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/copydata"
)

// copyNote is a row of courier.copy_progress.
type copyNote struct {
	name, state       string
	done, total       int64 // chunks
	rows              int64
	bytes, bytesTotal int64
	rate              float64 // bytes a second
	written           bool
}

// finished keeps what is to be noted of a table that is copied.
func (s *Shipper) finished(table *copydata.Table) {
	s.copying.notes[table.OID] = copyNote{name: s.copying.names[table.OID], state: "copied",
		done: table.ChunksTotal, total: table.ChunksTotal, rows: table.RowsDone, bytes: table.BytesTotal, bytesTotal: table.BytesTotal}
}

// startPace begins to measure how fast tables are copied. Time in which they were not,
// because of a pause, an error or an end of the shipper, does not count, nor do the
// chunks of before.
func (s *Shipper) startPace() {
	s.copying.since = s.now()
	for _, plan := range s.copying.partial {
		if plan != nil {
			plan.TakeBytes()
		}
	}
}

// noteCopies writes down how far the copy of each table is, where that has
// changed.
func (s *Shipper) noteCopies(ctx context.Context) error {
	var due []uint32
	for oid, name := range s.copying.names {
		note, known := s.copying.notes[oid]
		next := copyNote{name: name, state: "copied"}
		plan, partial := s.copying.partial[oid]
		switch {
		case partial && plan != nil:
			next = copyNote{name: name, state: "copying", done: plan.ChunksDone, total: plan.ChunksTotal, rows: plan.RowsDone,
				bytes: plan.BytesDone, bytesTotal: plan.BytesTotal}
			if note.name == name {
				next.rate = note.rate
			}
			if plan.Outstanding() == 0 {
				next.state = "verifying"
			}
			if fresh := plan.TakeBytes(); fresh > 0 {
				lately := float64(fresh) / max(s.now().Sub(s.copying.since).Seconds(), 0.001)
				if next.rate > 0 {
					lately = (lately + next.rate) / 2
				}
				next.rate = lately
			}
		case partial:
			next = copyNote{name: name, state: "copying"}
		case s.copying.pending[oid]:
			next = copyNote{name: name, state: "waiting"}
		case s.catalog.pending[oid]:
			next = copyNote{name: name, state: "cancelled"}
		case known && note.state == "copied" && note.name == name:
			next = note // with its numbers
		}
		if next.written = known && note.written && next.same(&note); !next.written {
			due = append(due, oid)
		}
		s.copying.notes[oid] = next
	}
	return s.writeCopyNotes(ctx, due)
}

func (n *copyNote) same(other *copyNote) bool {
	return n.name == other.name && n.state == other.state && n.done == other.done && n.total == other.total
}

func (s *Shipper) writeCopyNotes(ctx context.Context, due []uint32) error {
	if len(due) == 0 || s.notes.paused {
		return nil
	}
	columns := make([][]string, 9)
	for _, oid := range due {
		note := s.copying.notes[oid]
		for i, text := range []string{strconv.FormatUint(uint64(oid), 10), note.name, note.state,
			strconv.FormatInt(note.done, 10), strconv.FormatInt(note.total, 10), strconv.FormatInt(note.rows, 10),
			strconv.FormatInt(note.bytes, 10), strconv.FormatInt(note.bytesTotal, 10), strconv.FormatFloat(note.rate, 'f', 0, 64)} {
			columns[i] = append(columns[i], text)
		}
	}
	args := []any{strconv.Itoa(s.sub.ID)}
	for _, column := range columns {
		args = append(args, textArray(column))
	}
	// What was copied before this shipper was there has its numbers already; what is
	// not planned yet keeps them.
	_, err := s.session.Query(ctx, `INSERT INTO courier.copy_progress AS p
		(subscription_id, relation, copy_name, state, chunks_done, chunks_total, rows_copied, bytes_copied, bytes_total,
		 bytes_per_second, started_at, finished_at, updated_at)
		SELECT $1::pg_catalog.int4, u.relation, u.copy_name, u.state, u.done, u.total, u.rows, u.bytes, u.bytes_total,
		       nullif(u.rate, 0),
		       CASE WHEN u.state IN ('copying', 'verifying', 'copied') THEN pg_catalog.clock_timestamp() END,
		       CASE WHEN u.state = 'copied' THEN pg_catalog.clock_timestamp() END, pg_catalog.clock_timestamp()
		FROM ROWS FROM (
		    unnest($2::pg_catalog.oid[]), unnest($3::pg_catalog.text[]), unnest($4::pg_catalog.text[]),
		    unnest($5::pg_catalog.int8[]), unnest($6::pg_catalog.int8[]), unnest($7::pg_catalog.int8[]),
		    unnest($8::pg_catalog.int8[]), unnest($9::pg_catalog.int8[]), unnest($10::pg_catalog.float8[]))
		    AS u (relation, copy_name, state, done, total, rows, bytes, bytes_total, rate)
		WHERE NOT EXISTS ( -- what says nothing new does not even lock the row
		    SELECT FROM courier.copy_progress AS c
		    WHERE c.subscription_id = $1::pg_catalog.int4 AND c.relation = u.relation AND c.copy_name = u.copy_name
		      AND (c.state = u.state AND u.state IN ('waiting', 'cancelled', 'copied')
		           OR u.state = 'copying' AND u.total = 0 AND c.state IN ('copying', 'verifying')))
		ON CONFLICT ON CONSTRAINT copy_progress_pkey DO UPDATE
		SET copy_name = excluded.copy_name, state = excluded.state, chunks_done = excluded.chunks_done,
		    chunks_total = excluded.chunks_total, rows_copied = excluded.rows_copied, bytes_copied = excluded.bytes_copied,
		    bytes_total = excluded.bytes_total, bytes_per_second = excluded.bytes_per_second,
		    started_at = CASE WHEN p.copy_name = excluded.copy_name THEN coalesce(p.started_at, excluded.started_at)
		                      ELSE excluded.started_at END,
		    finished_at = excluded.finished_at, updated_at = excluded.updated_at
		WHERE (p.copy_name, p.state) IS DISTINCT FROM (excluded.copy_name, 'copied')`, args...)
	if err != nil {
		return fmt.Errorf("note how far the copy of %s is: %w", s.name, err)
	}
	for _, oid := range due {
		note := s.copying.notes[oid]
		note.written = true
		s.copying.notes[oid] = note
	}
	return nil
}
