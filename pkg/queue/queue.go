package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

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
	// Subscription is the number of the one that it is read for: reading is an
	// ErrNotHeld when the queue does not keep its changes. 0: for nobody.
	Subscription int
	start, end   string // as text
	first        *Page  // read when it was opened, not handed out yet

	// read up to here
	k   change.LSN
	xid uint64
	seq int32
}

// Next opens the interval from a finished position to now for a subscription (see
// Interval), and reads its first page; nil if nothing is queued in it. While that is
// so, and the configuration is of the known generation, it waits for so long. The
// generation valid at its end is returned in any case.
//
// The interval ends behind the last transaction queued in it, not at the present
// snapshot: ids of later transactions, which may have completed without leaving
// anything on disk, can be used again after a crash, and must not count as seen.
// The last one is on disk before the interval is used.
func Next(ctx context.Context, s session.Session, subscription int, start change.Snapshot, known int64, wait time.Duration) (*Interval, int64, error) {
	from := start.String()
	rows, err := s.Query(ctx, nextPage, from, strconv.FormatInt(known, 10), strconv.FormatInt(wait.Milliseconds(), 10),
		strconv.Itoa(subscription))
	if err != nil {
		return nil, 0, fmt.Errorf("look into the queue: %w", err)
	}
	i, generation, err := opened(rows[0], start)
	if err == nil && i != nil && string(rows[0][5]) != "t" {
		return nil, 0, ErrNotHeld
	}
	if err != nil {
		return nil, 0, fmt.Errorf("look into the queue: %w", err)
	}
	if i != nil {
		i.start, i.Subscription = from, subscription
	}
	return i, generation, nil
}

var nextPage = fmt.Sprintf(`SELECT now::pg_catalog.text, generation, last_xid, page, took,
		$4 = '0' OR courier.still_holds($4::pg_catalog.int4)
	FROM courier.next_page($1::pg_catalog.pg_snapshot, %d, %d, $2::pg_catalog.int8, $3::pg_catalog.int4)`, firstChunks, firstBytes)

// opened makes an interval of a row of nextPage.
func opened(row session.Row, start change.Snapshot) (*Interval, int64, error) {
	generation, err := strconv.ParseInt(string(row[1]), 10, 64)
	if err != nil || row[2] == nil {
		return nil, generation, err
	}
	now, err1 := change.ParseSnapshot(string(row[0]))
	last, err2 := strconv.ParseUint(string(row[2]), 10, 64)
	first, err3 := parsePage(row[3])
	took, err4 := strconv.ParseInt(string(row[4]), 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, 0, err
	}
	end := upTo(now, last, start)
	i := &Interval{Start: start, End: end, end: end.String()}
	first.took = time.Duration(took) * time.Microsecond
	i.first = first
	i.advance(first.Chunks)
	return i, generation, nil
}

// Look finds out whether anything was queued since a position: the position
// behind it, or nil.
func Look(ctx context.Context, s session.Session, start change.Snapshot) (*change.Snapshot, error) {
	rows, err := s.Query(ctx, `SELECT s::pg_catalog.text FROM courier.position() AS s,
		courier.look($1::pg_catalog.pg_snapshot, s) AS l WHERE l.last_xid IS NOT NULL`, start.String())
	if err != nil {
		return nil, fmt.Errorf("look into the queue: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	end, err := change.ParseSnapshot(string(rows[0][0]))
	if err != nil {
		return nil, fmt.Errorf("look into the queue: %w", err)
	}
	return &end, nil
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

// Read returns the next chunks, until there are so many of them or so many bytes.
// Their data are views of one string.
func (i *Interval) Read(ctx context.Context, s session.Session, chunks, bytes int) (*Page, error) {
	// The columns are computed in their order: whether the queue holds is asked when
	// the page has been read.
	rows, err := s.Query(ctx, `SELECT courier.read_queue($1::pg_catalog.pg_snapshot, $2::pg_catalog.pg_snapshot,
			$3::pg_catalog.pg_lsn, $4::pg_catalog.xid8, $5::pg_catalog.int4, $6::pg_catalog.int4, $7::pg_catalog.int4),
			$8 = '0' OR courier.still_holds($8::pg_catalog.int4)`,
		i.start, i.end, i.k.String(), strconv.FormatUint(i.xid, 10), strconv.Itoa(int(i.seq)),
		strconv.Itoa(chunks), strconv.Itoa(bytes), strconv.Itoa(i.Subscription))
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	if string(rows[0][1]) != "t" {
		return nil, ErrNotHeld
	}
	p, err := parsePage(rows[0][0])
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	i.advance(p.Chunks)
	return p, nil
}

// advance notes that a page was read.
func (i *Interval) advance(page []Chunk) {
	if len(page) > 0 {
		at := page[len(page)-1]
		i.k, i.xid, i.seq = at.K, at.XID, at.Seq
	}
}

// The lengths of what stands before the chunks of a page, and before a chunk's
// data; see ext/pg/queue_reader.c.
const (
	pageHeader  = 1 + 4 + 8
	chunkHeader = 8 + 8 + 4 + 4 + 4
)

func parsePage(text []byte) (*Page, error) {
	if len(text) < pageHeader {
		return nil, errPage
	}
	p := &Page{Last: text[0] == 1, Flushed: change.WAL{
		Timeline: binary.BigEndian.Uint32(text[1:]),
		Location: change.LSN(binary.BigEndian.Uint64(text[5:])),
	}}
	text = text[pageHeader:]
	for len(text) > 0 {
		if len(text) < chunkHeader {
			return nil, errPage
		}
		length := int(binary.BigEndian.Uint32(text[24:]))
		if length > len(text)-chunkHeader {
			return nil, errPage
		}
		p.Chunks = append(p.Chunks, Chunk{
			K:       change.LSN(binary.BigEndian.Uint64(text)),
			XID:     binary.BigEndian.Uint64(text[8:]),
			Seq:     int32(binary.BigEndian.Uint32(text[16:])),
			Changes: int32(binary.BigEndian.Uint32(text[20:])),
			Data:    text[chunkHeader : chunkHeader+length : chunkHeader+length],
		})
		text = text[chunkHeader+length:]
	}
	return p, nil
}

// ErrNotHeld says that the queue may have lost changes of the subscription that it
// is read for: it was detached to make room.
var ErrNotHeld = errors.New("the queue does not keep the subscription's changes any more")

var errPage = errors.New("a page is cut off; do the versions of the extension and of this program differ?")

// newInterval opens an interval behind a place in it.
func newInterval(start, end change.Snapshot, k change.LSN, xid uint64, seq int32) *Interval {
	return &Interval{Start: start, End: end, start: start.String(), end: end.String(), k: k, xid: xid, seq: seq}
}
