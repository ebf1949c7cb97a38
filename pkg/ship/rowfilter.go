package ship

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Row filters belong to a table in a replication set. Capture notes with each
// change which of the table's filters let the old and the new row in; what a
// subscription makes of it is decided here, by the rules of PostgreSQL's own row
// filters. A row is in if any set of the subscription lets it in.
//
//	change   old row   new row   sent as
//	insert             in        insert
//	update   in        in        update
//	update   out       in        insert of the whole row
//	update   in        out       delete
//	delete   in                  delete
//	upsert             in        upsert
//
// Anything else is not sent.

// member is a set of a subscription that has a table of which rows are filtered.
type member struct {
	set    string
	filter int32           // number of its row filter; 0 takes all rows
	allows render.Filter   // operations that it sends
	added  change.Snapshot // transactions it sees are not sent because of this set
}

// unfilteredError says that a change was captured without a row filter that
// decides about it, because the trigger that holds the filter was dropped.
type unfilteredError struct {
	schema, table string
	set           string
	filter        int32
}

// Error implements error.
func (e *unfilteredError) Error() string {
	return fmt.Sprintf("a change of table %s.%s was captured without the row filter of replication set %s", e.schema, e.table, e.set)
}

// SQLState classifies it as object_not_in_prerequisite_state.
func (e *unfilteredError) SQLState() string { return "55000" }

// Hint says what to do.
func (e *unfilteredError) Hint() string {
	name := literal(identifier(e.schema) + "." + identifier(e.table))
	return fmt.Sprintf("Trigger !pg_courier_filter_%d, which held the filter, is gone. "+
		"Run SELECT courier.replication_set_remove_table(%s, %s), and add the table again as docs/filters.md says of a changed filter.",
		e.filter, literal(e.set), name)
}

// admit reports whether a change made by a transaction is shipped, and makes of
// it what is: an update that moves a row into the row filters becomes an insert,
// one that moves it out a delete. Truncates are asked for by wants.
func (c *catalog) admit(ch *change.Change, xid uint64) (bool, error) {
	if !c.wants(ch.Relation, ch.Op, xid) {
		return false, nil
	}
	table := c.tables[ch.Relation.OID]
	if table.members == nil {
		return true, nil
	}
	oldIn, newIn, err := table.lets(ch, xid)
	if err != nil {
		return false, err
	}
	switch ch.Op {
	case change.Insert, change.Upsert:
		return newIn, nil
	case change.Delete:
		return oldIn, nil
	}
	switch {
	case oldIn && newIn:
		return true, nil
	case newIn:
		return true, moveIn(ch)
	case oldIn:
		moveOut(ch)
		return true, nil
	}
	return false, nil
}

// lets reports whether any set lets the old and the new row of a change in.
func (t *Table) lets(ch *change.Change, xid uint64) (oldIn, newIn bool, err error) {
	for i := range t.members {
		m := &t.members[i]
		if !m.allows.Allows(ch.Op) || m.added.Visible(xid) {
			continue
		}
		if m.filter == 0 {
			return true, true, nil
		}
		result, known := ch.Filtered(m.filter)
		if !known {
			return false, false, &unfilteredError{t.Schema, t.Name, m.set, m.filter}
		}
		oldIn, newIn = oldIn || result.Old, newIn || result.New
	}
	return oldIn, newIn, nil
}

// moveIn makes an update the insert of its new row, which capture has written
// whole.
func moveIn(ch *change.Change) error {
	for i := range ch.New {
		if ch.New[i].Kind == change.Unchanged {
			return fmt.Errorf("make an insert of an update of table %s: %w", ch.Relation, &session.Error{SQLState: "XX001",
				Message: fmt.Sprintf("the row moves into a row filter, and its column %s was not captured", ch.Relation.Columns[i].Name)})
		}
		ch.New[i].Same = false
	}
	ch.Op, ch.Old = change.Insert, nil
	return nil
}

// moveOut makes an update the delete of its old row. An update that leaves the
// key as it was does not carry the old one.
func moveOut(ch *change.Change) {
	if ch.Old == nil {
		ch.Old = ch.New
		for i := range ch.Old {
			if !ch.Relation.Columns[i].Key {
				ch.Old[i] = change.Value{Kind: change.Null}
			}
		}
	}
	ch.Op, ch.New = change.Delete, nil
}

// RowFiltered reports whether some rows of the table are not sent. Then updates
// may be sent as inserts and deletes.
func (t *Table) RowFiltered() bool {
	return t.members != nil && !slices.ContainsFunc(t.members, func(m member) bool { return m.filter == 0 && m.allows.Update })
}

// loadMembers reads which sets decide about the rows of a subscription's tables.
func loadMembers(ctx context.Context, s session.Session, id int, tables []Table) error {
	rows, err := s.Query(ctx, `SELECT relation, set_name, coalesce(filter_id, 0), replicate_insert, replicate_update, replicate_delete, added
		FROM courier.subscription_row_filter WHERE subscription_id = $1::pg_catalog.int4
		UNION ALL
		SELECT relation, set_name, coalesce(filter_id, 0), replicate_insert, replicate_update, replicate_delete, added
		FROM courier.dropped_table_filter WHERE subscription_id = $1::pg_catalog.int4
		ORDER BY relation, set_name`, strconv.Itoa(id))
	if err != nil {
		return fmt.Errorf("read the subscription's row filters: %w", err)
	}
	byOID := make(map[string]*Table, len(tables))
	for i := range tables {
		byOID[strconv.FormatUint(uint64(tables[i].OID), 10)] = &tables[i]
	}
	for _, row := range rows {
		table := byOID[string(row[0])]
		if table == nil {
			continue // changed in between: the generation tells
		}
		filter, err := strconv.ParseInt(string(row[2]), 10, 32)
		if err != nil {
			return fmt.Errorf("read the subscription's row filters: %w", err)
		}
		added, err := change.ParseSnapshot(string(row[6]))
		if err != nil {
			return fmt.Errorf("read the subscription's row filters: %w", err)
		}
		table.members = append(table.members, member{set: string(row[1]), filter: int32(filter), added: added,
			allows: render.Filter{Insert: string(row[3]) == "t", Update: string(row[4]) == "t", Delete: string(row[5]) == "t"}})
	}
	return nil
}

// copyCondition is the condition on the rows of a table that are copied, with
// AND before it, or "".
func (s *Shipper) copyCondition(ctx context.Context, table *Table) (string, error) {
	if table.members == nil {
		return "", nil
	}
	condition, found, err := session.Value(ctx, s.session, "SELECT courier.copy_condition($1::pg_catalog.int4, $2::pg_catalog.oid)",
		strconv.Itoa(s.sub.ID), strconv.FormatUint(uint64(table.OID), 10))
	if err != nil {
		if SQLState(err) == "55000" {
			stop := s.newCopyStop(table, err)
			stop.Advice = Hint(err)
			return "", stop
		}
		return "", fmt.Errorf("read the row filters of table %s.%s: %w", table.Schema, table.Name, err)
	}
	if !found || condition == "" {
		return "", nil
	}
	return " AND (" + condition + ")", nil
}
