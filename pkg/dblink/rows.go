package dblink

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Rows is a statement that inserts rows of a local table; see
// courier.copy_send().
type Rows struct {
	Query       string // gives ctid and the columns for two places, $1 and $2
	First, Last string // the places: from the first on, before the last
	Head        string
	Joints      []byte // an array of text, as a literal
	Most        int    // bytes after which the statement ends
	Largest     int    // bytes of a row that is sent at all
}

// Sent is what came of sending rows.
type Sent struct {
	Rows, Bytes int64
	Next        string  // where to go on; "" at the end
	Sizes       []int64 // of the values of the row there, if it is too large to be sent
}

// SendRows reads rows of a local table and starts the statement that inserts
// them, if there are any: then a Wait is due.
func (l *Link) SendRows(ctx context.Context, r *Rows) (Sent, error) {
	rows, err := l.sending(ctx, r.Most, `SELECT rows, bytes, next, pg_catalog.array_to_string(sizes, ',')
		FROM courier.copy_send($1, $2, $3::pg_catalog.tid, $4::pg_catalog.tid, $5, $6::pg_catalog.text[],
		$7::pg_catalog.int4, $8::pg_catalog.int4, $9::pg_catalog.int4)`,
		l.name, r.Query, r.First, r.Last, r.Head, r.Joints, strconv.Itoa(r.Most), strconv.Itoa(r.Largest),
		milliseconds(l.bounds.silence))
	if err != nil {
		return Sent{}, fmt.Errorf("send rows to node %s: %w", l.node, err)
	}
	sent, err := sentOf(rows[0])
	if err != nil {
		return Sent{}, fmt.Errorf("send rows to node %s: %w", l.node, err)
	}
	l.busy, l.sent = sent.Rows > 0, int(sent.Bytes)
	return sent, nil
}

// ReadRows reads rows as SendRows does, and keeps the statement for SendRead. The
// link may be busy: so the rows are read while the node works. A statement that was
// kept before and not sent is dropped.
func (l *Link) ReadRows(ctx context.Context, r *Rows) (Sent, error) {
	ctx = session.WithLimit(ctx, time.Minute+allowance(r.Most, slowestPace))
	rows, err := l.session.Query(ctx, `SELECT rows, bytes, next, pg_catalog.array_to_string(sizes, ',')
		FROM courier.copy_read($1, $2, $3::pg_catalog.tid, $4::pg_catalog.tid, $5, $6::pg_catalog.text[],
		$7::pg_catalog.int4, $8::pg_catalog.int4)`,
		l.name, r.Query, r.First, r.Last, r.Head, r.Joints, strconv.Itoa(r.Most), strconv.Itoa(r.Largest))
	var sent Sent
	if err == nil {
		sent, err = sentOf(rows[0])
	}
	if err != nil {
		return Sent{}, fmt.Errorf("read rows for node %s: %w", l.node, err)
	}
	return sent, nil
}

// SendRead starts the statement that ReadRows has kept, which must have rows.
func (l *Link) SendRead(ctx context.Context, read *Sent) error {
	_, err := l.sending(ctx, int(read.Bytes), "SELECT courier.remote_send_kept($1, $2::pg_catalog.int4)",
		l.name, milliseconds(l.bounds.silence))
	if err != nil {
		return fmt.Errorf("send rows to node %s: %w", l.node, err)
	}
	return nil
}

// sentOf reads what copy_send() and copy_read() give.
func sentOf(row session.Row) (Sent, error) {
	sent := Sent{Next: string(row[2])}
	var err error
	if sent.Rows, err = strconv.ParseInt(string(row[0]), 10, 64); err != nil {
		return Sent{}, err
	}
	if sent.Bytes, err = strconv.ParseInt(string(row[1]), 10, 64); err != nil {
		return Sent{}, err
	}
	sent.Sizes, err = parseNumbers(row[3])
	return sent, err
}

// SendValue starts a statement with a slice of one value of a local row in it:
// column number behind the ctid, from an offset on, between head and tail. It
// returns where the next slice begins, or -1 behind the last.
func (l *Link) SendValue(ctx context.Context, query, place string, number int, offset int64, most int, head, tail string) (int64, error) {
	rows, err := l.sending(ctx, 2*most, `SELECT coalesce(next, -1)
		FROM courier.copy_value_send($1, $2, $3::pg_catalog.tid, $4::pg_catalog.int4, $5::pg_catalog.int8,
		$6::pg_catalog.int4, $7, $8, $9::pg_catalog.int4)`,
		l.name, query, place, strconv.Itoa(number), strconv.FormatInt(offset, 10), strconv.Itoa(most), head, tail,
		milliseconds(l.bounds.silence))
	if err != nil {
		return 0, fmt.Errorf("send a value to node %s: %w", l.node, err)
	}
	return strconv.ParseInt(string(rows[0][0]), 10, 64)
}

// Mark gives the session on the node the name under which the next Claim of the
// subscription finds it, and ends it if it is still there.
func (l *Link) Mark(ctx context.Context, key string) error {
	if _, err := l.value(ctx, markOf(key)); err != nil {
		return fmt.Errorf("mark the session on node %s: %w", l.node, err)
	}
	return nil
}

func markOf(key string) string {
	return "SELECT pg_catalog.set_config('application_name', " + quote("pg_courier "+key) + ", false)"
}
