package dblink

import (
	"context"
	"fmt"
	"strconv"
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
	sent := Sent{Next: string(rows[0][2])}
	numbers := []struct {
		to   *int64
		from []byte
	}{{&sent.Rows, rows[0][0]}, {&sent.Bytes, rows[0][1]}}
	for _, n := range numbers {
		if *n.to, err = strconv.ParseInt(string(n.from), 10, 64); err != nil {
			return Sent{}, fmt.Errorf("send rows to node %s: %w", l.node, err)
		}
	}
	if sent.Sizes, err = parseNumbers(rows[0][3]); err != nil {
		return Sent{}, fmt.Errorf("send rows to node %s: %w", l.node, err)
	}
	l.busy, l.sent = sent.Rows > 0, int(sent.Bytes)
	return sent, nil
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
	_, err := l.value(ctx, "SELECT pg_catalog.set_config('application_name', "+quote("pg_courier "+key)+", false)")
	if err != nil {
		return fmt.Errorf("mark the session on node %s: %w", l.node, err)
	}
	return nil
}
