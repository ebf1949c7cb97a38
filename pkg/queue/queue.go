package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Chunk is a row of the queue: a part of a transaction's messages.
type Chunk struct {
	K       change.LSN
	XID     uint64
	Seq     int32
	Origin  int32 // 0 for local changes
	Clock   int64 // hybrid logical clock: ms since 1970 << 16 | counter
	Changes int32 // that begin in this chunk
	Data    []byte
}

// Interval is what is to be read between two positions.
type Interval struct {
	Start, End change.Snapshot
	start, end string // as text

	// read up to here
	k   change.LSN
	xid uint64
	seq int32
}

// Next opens the interval from a finished position to now; nil if nothing is
// queued in it. The generation of the configuration valid at its end is returned
// in any case.
//
// The interval ends behind the last transaction queued in it, not at the present
// snapshot: ids of later transactions, which may have completed without leaving
// anything on disk, can be used again after a crash, and must not count as seen.
// The last one is brought to disk before the interval is used.
func Next(ctx context.Context, s session.Session, start change.Snapshot) (*Interval, int64, error) {
	rows, err := s.Query(ctx,
		`SELECT s::pg_catalog.text, l.first_k, CASE WHEN courier.flush_commit(l.last_xid) THEN l.last_xid END,
		        (SELECT generation FROM courier.configuration)
		 FROM courier.position() AS s, courier.look($1::pg_catalog.pg_snapshot, s) AS l`, start.String())
	if err != nil {
		return nil, 0, fmt.Errorf("look into the queue: %w", err)
	}
	row := rows[0]
	generation, err := strconv.ParseInt(string(row[3]), 10, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("look into the queue: %w", err)
	}
	if row[1] == nil {
		return nil, generation, nil
	}
	now, err1 := change.ParseSnapshot(string(row[0]))
	first, err2 := change.ParseLSN(string(row[1]))
	last, err3 := strconv.ParseUint(string(row[2]), 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, 0, fmt.Errorf("look into the queue: %w", err)
	}
	end := upTo(now, last, start)
	return &Interval{Start: start, End: end, start: start.String(), end: end.String(), k: first, seq: -1}, generation, nil
}

// upTo is the snapshot as far as the transaction last, but never before start: a
// transaction that start saw in progress may be all there is.
func upTo(now change.Snapshot, last uint64, start change.Snapshot) change.Snapshot {
	xmax := max(last+1, start.Xmax)
	end := change.Snapshot{Xmin: min(now.Xmin, xmax), Xmax: xmax}
	for _, xid := range now.InProgress {
		if xid < xmax {
			end.InProgress = append(end.InProgress, xid)
		}
	}
	return end
}

// Resume opens the interval of an unfinished position behind the transaction
// it names.
func Resume(p change.Position) *Interval {
	return &Interval{Start: p.Start, End: *p.End, start: p.Start.String(), end: p.End.String(),
		k: p.K, xid: p.XID, seq: math.MaxInt32}
}

// Read returns the next chunks, at most limit of them. Fewer means that the
// interval is at its end.
func (i *Interval) Read(ctx context.Context, s session.Session, limit int) ([]Chunk, error) {
	rows, err := s.Query(ctx,
		`SELECT k, xid, seq, origin, clock, changes, data
		 FROM courier.read_queue($1::pg_catalog.pg_snapshot, $2::pg_catalog.pg_snapshot,
		      $3::pg_catalog.pg_lsn, $4::pg_catalog.xid8, $5::pg_catalog.int4, $6::pg_catalog.int4)`,
		i.start, i.end, i.k.String(), strconv.FormatUint(i.xid, 10),
		strconv.Itoa(int(i.seq)), strconv.Itoa(limit))
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	chunks := make([]Chunk, len(rows))
	for n, row := range rows {
		if chunks[n], err = parseChunk(row); err != nil {
			return nil, fmt.Errorf("read the queue: %w", err)
		}
	}
	if len(chunks) > 0 {
		last := chunks[len(chunks)-1]
		i.k, i.xid, i.seq = last.K, last.XID, last.Seq
	}
	return chunks, nil
}

func parseChunk(row session.Row) (Chunk, error) {
	var c Chunk
	var err error
	number := func(column int, bits int) int64 {
		n, e := strconv.ParseInt(string(row[column]), 10, bits)
		if e != nil && err == nil {
			err = e
		}
		return n
	}
	k, e := change.ParseLSN(string(row[0]))
	if e != nil {
		return c, e
	}
	c = Chunk{
		K:       k,
		XID:     uint64(number(1, 64)),
		Seq:     int32(number(2, 32)),
		Origin:  int32(number(3, 32)),
		Clock:   number(4, 64),
		Changes: int32(number(5, 32)),
		Data:    row[6],
	}
	return c, err
}
