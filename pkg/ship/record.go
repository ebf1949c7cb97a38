package ship

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Statistics are added to two tables of the source in one statement, together with
// the note of the progress and so about once a second, however many batches there
// were. The row of the subscription is locked first, as reset_statistics() does.
const addStatistics = `WITH s AS (
	INSERT INTO courier.subscription_statistics AS t
	(subscription_id, shipped, events, commands, batches, bytes, read_time, render_time, apply_time)
	SELECT s.subscription_id, $2::pg_catalog.int8, $3::pg_catalog.int8, $4::pg_catalog.int8, $5::pg_catalog.int8,
	       $6::pg_catalog.int8, $7::pg_catalog.int8, $8::pg_catalog.int8, $9::pg_catalog.int8
	FROM courier.subscription AS s WHERE s.subscription_id = $1::pg_catalog.int4
	ON CONFLICT (subscription_id) DO UPDATE SET
	shipped = t.shipped + excluded.shipped, events = t.events + excluded.events, commands = t.commands + excluded.commands,
	batches = t.batches + excluded.batches, bytes = t.bytes + excluded.bytes,
	read_time = t.read_time + excluded.read_time, render_time = t.render_time + excluded.render_time,
	apply_time = t.apply_time + excluded.apply_time, updated_at = pg_catalog.clock_timestamp()
	RETURNING t.subscription_id)
INSERT INTO courier.table_statistics AS t
(subscription_id, relation, %s)
SELECT s.subscription_id, u.* FROM s CROSS JOIN ROWS FROM (unnest($10::pg_catalog.oid[]), %s) AS u
ON CONFLICT (subscription_id, relation) DO UPDATE SET %s, updated_at = pg_catalog.clock_timestamp()`

// tableColumns are the columns of courier.table_statistics.
var tableColumns = []struct {
	name  string
	value func(*tableCounts) int64
}{
	{"captured_inserts", func(t *tableCounts) int64 { return t.captured.Inserted }},
	{"captured_updates", func(t *tableCounts) int64 { return t.captured.Updated }},
	{"captured_deletes", func(t *tableCounts) int64 { return t.captured.Deleted }},
	{"captured_truncates", func(t *tableCounts) int64 { return t.captured.Truncated }},
	{"filtered", func(t *tableCounts) int64 { return t.filtered }},
	{"inserted", func(t *tableCounts) int64 { return t.shipped.Inserted }},
	{"updated", func(t *tableCounts) int64 { return t.shipped.Updated }},
	{"deleted", func(t *tableCounts) int64 { return t.shipped.Deleted }},
	{"truncated", func(t *tableCounts) int64 { return t.shipped.Truncated }},
	{"copied", func(t *tableCounts) int64 { return t.copied }},
	{"folded", func(t *tableCounts) int64 { return t.folded }},
	{"confl_insert_exists", func(t *tableCounts) int64 { return t.conflicts.InsertExists }},
	{"confl_update_exists", func(t *tableCounts) int64 { return t.conflicts.UpdateExists }},
	{"confl_update_missing", func(t *tableCounts) int64 { return t.conflicts.UpdateMissing }},
	{"confl_delete_missing", func(t *tableCounts) int64 { return t.conflicts.DeleteMissing }},
	{"bytes", func(t *tableCounts) int64 { return t.bytes }},
}

// addStatisticsSQL is addStatistics with the columns of tables.
var addStatisticsSQL = func() string {
	var names, arrays, sums []string
	for i, column := range tableColumns {
		names = append(names, column.name)
		arrays = append(arrays, fmt.Sprintf("unnest($%d::pg_catalog.int8[])", 11+i))
		sums = append(sums, fmt.Sprintf("%[1]s = t.%[1]s + excluded.%[1]s", column.name))
	}
	return fmt.Sprintf(addStatistics, strings.Join(names, ", "), strings.Join(arrays, ", "), strings.Join(sums, ", "))
}()

// writeStatistics adds what was counted to the source's tables, and forgets it.
func (s *Shipper) writeStatistics(ctx context.Context) error {
	c := &s.statistics.counts
	if c.empty() {
		return nil
	}
	args := []any{strconv.Itoa(s.statistics.subscription), integer(c.changes), integer(c.events), integer(c.commands), integer(c.batches), integer(c.bytes),
		integer(c.read.Microseconds()), integer(c.render.Microseconds()), integer(c.apply.Microseconds())}
	arrays := make([][]byte, 1+len(tableColumns))
	add := func(i int, n int64) {
		if len(arrays[i]) > 0 {
			arrays[i] = append(arrays[i], ',')
		}
		arrays[i] = strconv.AppendInt(arrays[i], n, 10)
	}
	for oid, t := range c.tables {
		add(0, int64(oid))
		for i := range tableColumns {
			add(1+i, tableColumns[i].value(t))
		}
	}
	for _, array := range arrays {
		args = append(args, "{"+string(array)+"}")
	}
	if _, err := s.session.Query(ctx, addStatisticsSQL, args...); err != nil {
		return fmt.Errorf("add to the statistics of subscription %s: %w", s.name, err)
	}
	c.reset()
	return nil
}

// keepStatistics writes what was counted before an error. What can't be written
// stays for the next shipper; in the caller's transaction it is of no use, since
// the error ends that.
func (s *Shipper) keepStatistics(ctx context.Context) {
	if s.inTransaction || s.notes.paused || s.sessionClosed() {
		return
	}
	if err := s.writeStatistics(ctx); err != nil {
		s.log.Debug(err.Error(), "subscription", s.name)
	}
}

func integer(n int64) string { return strconv.FormatInt(n, 10) }
