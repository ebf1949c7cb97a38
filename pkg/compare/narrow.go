package compare

import (
	"context"
	"slices"
	"strings"
)

// Bounds of what is read at once while ranges are narrowed down.
const (
	batchRows  = 50000 // in ranges that are read again
	batchSpans = 64
	listRows   = 200 // of a range that is listed rather than split
	splitInto  = 16
	settleRows = 1000 // whose versions are read at once
)

// narrow looks into the ranges that differ until it has the keys of the rows.
func (c *comparison) narrow(ctx context.Context, t *table, spans []span) error {
	total := float64(max(len(spans), 1))
	// from the end, so that what is left of a range comes before the next one
	slices.Reverse(spans)
	for len(spans) > 0 {
		t.progress("narrow", max(0, 1-float64(len(spans))/total), false)
		batch := takeBatch(&spans)
		read, other, err := c.readBoth(ctx, t, batch)
		if err != nil {
			return err
		}
		var small []span
		for i, s := range batch {
			s.rows = max(read[i].rows, other[i].rows)
			switch {
			case read[i] == other[i]:
				t.answer.Rows += read[i].rows
			case s.rows <= listRows || t.unindexed:
				small = append(small, s)
			default:
				larger := t.here
				if other[i].rows > read[i].rows {
					larger = t.there
				}
				parts, err := c.split(ctx, t, larger, s)
				if err != nil {
					return err
				}
				spans = append(spans, parts...)
			}
		}
		if err = c.listBoth(ctx, t, small); err != nil {
			return err
		}
	}
	return nil
}

// takeBatch takes spans from the end of a list.
func takeBatch(spans *[]span) []span {
	var batch []span
	rows := int64(0)
	for len(*spans) > 0 && len(batch) < batchSpans {
		last := (*spans)[len(*spans)-1]
		if len(batch) > 0 && rows+last.rows > batchRows {
			break
		}
		batch, rows = append(batch, last), rows+last.rows
		*spans = (*spans)[:len(*spans)-1]
	}
	return batch
}

// readBoth reads sums of the source, and then those of the node, when it has
// applied what the source showed.
func (c *comparison) readBoth(ctx context.Context, t *table, batch []span) (here, there []sums, err error) {
	if here, err = c.readSums(ctx, t, t.here, batch); err != nil {
		return nil, nil, err
	}
	if err = c.catchUp(ctx); err != nil {
		return nil, nil, err
	}
	there, err = c.readSums(ctx, t, t.there, batch)
	return here, there, err
}

// split divides a range by the keys of the side that has more rows in it.
func (c *comparison) split(ctx context.Context, t *table, r *relation, s span) ([]span, error) {
	q := r.place.statement()
	bounds, err := c.cut(ctx, t, r, q, r.from("", t.within(q, r, c.hash, s)...), splitInto)
	if err != nil {
		return nil, err
	}
	var parts []span
	low := s.low
	for _, bound := range bounds {
		parts = append(parts, span{low: low, high: bound, rows: s.rows / int64(len(bounds)+1)})
		low = bound
	}
	return append(parts, span{low: low, high: s.high, rows: s.rows / int64(len(bounds)+1)}), nil
}

// listBoth lists the rows of small ranges, and keeps the keys of those that
// differ.
func (c *comparison) listBoth(ctx context.Context, t *table, spans []span) error {
	for len(spans) > 0 {
		batch := takeBatch(&spans)
		here, err := c.list(ctx, t, t.here, batch)
		if err != nil {
			return err
		}
		if err = c.catchUp(ctx); err != nil {
			return err
		}
		there, err := c.list(ctx, t, t.there, batch)
		if err != nil {
			return err
		}
		other := make(map[string]*row, len(there))
		for i := range there {
			id := there[i].id()
			if twin := other[id]; twin != nil {
				there[i] = twin.with(there[i])
			}
			other[id] = &there[i]
		}
		for i := range here {
			id := here[i].id()
			if twin := other[id]; twin != nil && twin.hash == here[i].hash {
				t.answer.Rows += here[i].count
			} else {
				t.candidates[id] = here[i].key
			}
			delete(other, id)
		}
		for id, row := range other {
			t.candidates[id] = row.key
		}
		if len(t.candidates) >= settleRows {
			if err := c.settle(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// id is the key as one text.
func (r *row) id() string { return joined(r.key) }

func joined(key []string) string { return strings.Join(key, "\x00") }
