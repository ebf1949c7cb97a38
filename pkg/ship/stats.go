package ship

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// tableCounts is what was shipped of one table.
type tableCounts struct {
	inserted, updated, deleted, truncated, copied int64
}

// counts is what was shipped, by table OID.
type counts map[uint32]*tableCounts

// of returns a table's counts, to be added to.
func (c counts) of(oid uint32) *tableCounts {
	t := c[oid]
	if t == nil {
		t = &tableCounts{}
		c[oid] = t
	}
	return t
}

func (t *tableCounts) add(op change.Op) {
	switch op {
	case change.Insert, change.Upsert:
		t.inserted++
	case change.Update:
		t.updated++
	case change.Delete:
		t.deleted++
	case change.Truncate:
		t.truncated++
	}
}

// merge adds what other has.
func (c counts) merge(other counts) {
	for oid, o := range other {
		t := c.of(oid)
		t.inserted += o.inserted
		t.updated += o.updated
		t.deleted += o.deleted
		t.truncated += o.truncated
		t.copied += o.copied
	}
}

// writeCounts adds the counts to courier.table_state and empties them.
func (s *Shipper) writeCounts(ctx context.Context) error {
	if len(s.counts) == 0 {
		return nil
	}
	columns := make([][]string, 6)
	for oid, t := range s.counts {
		for i, n := range []int64{int64(oid), t.inserted, t.updated, t.deleted, t.truncated, t.copied} {
			columns[i] = append(columns[i], strconv.FormatInt(n, 10))
		}
	}
	args := []any{strconv.Itoa(s.sub.ID)}
	for _, column := range columns {
		args = append(args, "{"+strings.Join(column, ",")+"}")
	}
	_, err := s.session.Query(ctx, `INSERT INTO courier.table_state AS t
		(subscription_id, relation, inserted, updated, deleted, truncated, copied)
		SELECT $1::pg_catalog.int4, u.* FROM ROWS FROM (
		    unnest($2::pg_catalog.oid[]), unnest($3::pg_catalog.int8[]), unnest($4::pg_catalog.int8[]),
		    unnest($5::pg_catalog.int8[]), unnest($6::pg_catalog.int8[]), unnest($7::pg_catalog.int8[])) AS u
		ON CONFLICT (subscription_id, relation) DO UPDATE SET
		inserted = t.inserted + excluded.inserted, updated = t.updated + excluded.updated,
		deleted = t.deleted + excluded.deleted, truncated = t.truncated + excluded.truncated,
		copied = t.copied + excluded.copied, updated_at = pg_catalog.clock_timestamp()`, args...)
	if err != nil {
		return fmt.Errorf("note what was shipped of the tables of %s: %w", s.name, err)
	}
	clear(s.counts)
	return nil
}
