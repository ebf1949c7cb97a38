package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Chunk is a row of the queue: a part of a transaction's messages.
type Chunk struct {
	K       change.LSN
	XID     uint64
	Seq     int32
	Changes int32 // that begin in this chunk
	Data    []byte
}

// Interval is what is to be read between two positions.
type Interval struct {
	Start, End change.Snapshot
	end        string // as text
	waiting    string // what Start saw in progress, as an array

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
	return newInterval(start, end, first, 0, -1), generation, nil
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
	return newInterval(p.Start, *p.End, p.K, p.XID, math.MaxInt32)
}

// Read returns the next chunks, at most limit of them. Fewer means that the
// interval is at its end.
func (i *Interval) Read(ctx context.Context, s session.Session, limit int) ([]Chunk, error) {
	rows, err := s.Query(ctx, readPage, i.end,
		i.k.String(), strconv.FormatUint(i.xid, 10), strconv.Itoa(int(i.seq)), strconv.Itoa(limit),
		strconv.FormatUint(i.Start.Xmax, 10), i.waiting)
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

// readPage reads a page: $1 the interval's end, ($2, $3, $4) what was read last,
// $5 how many chunks, and which transactions the interval's start did not see:
// those from $6 on, and $7. What is read is brought to disk here before it can
// be shipped.
//
// The one good plan is a merge of the segments' indexes on (k, xid, seq). The
// segments have no statistics from which the planner could know it, hence the
// settings of engine sessions; and it merges only what has an order of its own,
// hence the ORDER BY and LIMIT of each arm.
var readPage = func() string {
	var arms []string
	for _, segment := range []string{"queue_0", "queue_1", "queue_2"} {
		arms = append(arms, `(SELECT k, xid, seq, changes, data FROM courier.`+segment+`
			WHERE (k, xid, seq) > ($2::pg_catalog.pg_lsn, $3::pg_catalog.xid8, $4::pg_catalog.int4)
			  AND (xid >= $6::pg_catalog.xid8 OR xid = ANY ($7::pg_catalog.xid8[]))
			  AND pg_catalog.pg_visible_in_snapshot(xid, $1::pg_catalog.pg_snapshot)
			ORDER BY k, xid, seq LIMIT $5::pg_catalog.int4)`)
	}
	return `SELECT CASE WHEN courier.flush_commit(xid) THEN k END, xid, seq, changes, data
		FROM (` + strings.Join(arms, " UNION ALL ") + `) AS q
		ORDER BY q.k, q.xid, q.seq LIMIT $5::pg_catalog.int4`
}()

func parseChunk(row session.Row) (Chunk, error) {
	k, err := change.ParseLSN(string(row[0]))
	xid, err2 := strconv.ParseUint(string(row[1]), 10, 64)
	seq, err3 := strconv.ParseInt(string(row[2]), 10, 32)
	changes, err4 := strconv.ParseInt(string(row[3]), 10, 32)
	return Chunk{K: k, XID: xid, Seq: int32(seq), Changes: int32(changes), Data: row[4]},
		errors.Join(err, err2, err3, err4)
}

// newInterval opens an interval behind a place in it.
func newInterval(start, end change.Snapshot, k change.LSN, xid uint64, seq int32) *Interval {
	waiting := make([]string, len(start.InProgress))
	for i, x := range start.InProgress {
		waiting[i] = strconv.FormatUint(x, 10)
	}
	return &Interval{Start: start, End: end, end: end.String(), waiting: "{" + strings.Join(waiting, ",") + "}",
		k: k, xid: xid, seq: seq}
}
