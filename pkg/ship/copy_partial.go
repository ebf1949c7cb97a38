package ship

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// overCopy calls f with what a change of a table that is partial becomes, so that
// it leaves the rows that are there as they are on the source, whether the row that
// it changes has been copied yet or not. An update that does not carry all of the
// row can't do that: the row is noted to be copied once more. Nor can it where rows of
// other tables refer to the one that it moves, which must not go for a moment, or where
// it may be refused for a column that no update can set.
func (c *cutter) overCopy(ch *change.Change, p *piece, f func(*change.Change)) {
	if plan := c.shipper.copying.partial[ch.Relation.OID]; plan != nil {
		plan.Tolerant = true
	}
	switch ch.Op {
	case change.Insert:
		upsert := *ch
		upsert.Op = change.Upsert
		f(&upsert)
	case change.Update:
		unchanged := slices.ContainsFunc(ch.New, func(v change.Value) bool { return v.Kind == change.Unchanged })
		if unchanged || c.shipper.referred(ch.Relation.OID) || c.shipper.frozen(ch.Relation) {
			p.missed = append(p.missed, missedRow{ch.Relation.OID, keyOf(ch.Relation, ch.New)})
			f(ch)
			return
		}
		if ch.Old != nil {
			f(&change.Change{Op: change.Delete, Relation: ch.Relation, Old: ch.Old})
		}
		upsert := change.Change{Op: change.Upsert, Relation: ch.Relation, New: ch.New}
		f(&upsert)
	default:
		f(ch)
	}
}

// frozen says that the node's table has, or may have, a column that no update can
// set.
func (s *Shipper) frozen(relation *change.Relation) bool {
	remote := s.catalog.remote[tableName{relation.Schema, relation.Name}]
	return remote == nil || slices.ContainsFunc(remote.Columns, func(c render.Column) bool {
		return c.Identity == 'a' && !slices.ContainsFunc(relation.Columns, func(r change.Column) bool { return r.Key && r.Name == c.Name })
	})
}

// missedRow is a row to be copied once more.
type missedRow struct {
	relation uint32
	key      []string // in the order of the relation's columns, then their names
}

func keyOf(relation *change.Relation, row []change.Value) []string {
	var key []string
	for _, i := range relation.Keys() {
		key = append(key, string(row[i].Data))
	}
	return append(key, keyNames(relation)...)
}

func keyNames(relation *change.Relation) []string {
	var names []string
	for _, i := range relation.Keys() {
		names = append(names, relation.Columns[i].Name)
	}
	return names
}

// noteMissed is the statement that notes rows on the target.
func (s *Shipper) noteMissed(rows []missedRow) string {
	var sql strings.Builder
	sql.WriteString("INSERT INTO courier_target.missed_row (subscription, relation, key) VALUES ")
	for i, row := range rows {
		if i > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "(%s, %d, %s)", literal(s.sub.ProgressKey), row.relation, literal(textArray(row.key)))
		s.copying.missed[row.relation] = true
	}
	return sql.String()
}

// textArray is the literal of an array of text.
func textArray(list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// mostMissed bounds the rows that are looked for at once.
const mostMissed = 5000

// missedRows finds the rows of a table that are to be copied once more, where the
// pinned snapshot has them. The target forgets them in the transaction that brings
// them; those that are not there any more, or on pages that are yet to be copied,
// at once. They can't be found (rekeyed) if other columns were the table's key when one
// was noted.
func (s *Shipper) missedRows(ctx context.Context, table *copydata.Table) (jobs []*copydata.Job, rekeyed bool, err error) {
	noted := fmt.Sprintf("FROM courier_target.missed_row WHERE subscription = %s AND relation = %d", literal(s.sub.ProgressKey), table.OID)
	names := keyNames(table.Relation)
	rows, err := s.link.Query(ctx, fmt.Sprintf("SELECT m.ctid, pg_catalog.array_to_json(m.key), m.key[%d:] = %s::pg_catalog.text[] ",
		len(names)+1, literal(textArray(names)))+strings.Replace(noted, "WHERE", "AS m WHERE", 1)+
		" ORDER BY m.ctid LIMIT "+strconv.Itoa(mostMissed+1), 3)
	if err != nil {
		return nil, false, err
	}
	more := len(rows) > mostMissed
	if more {
		rows = rows[:mostMissed]
	}
	s.copying.missed[table.OID] = more
	if len(rows) == 0 {
		return nil, false, nil
	}
	var places, keys []string
	for _, row := range rows {
		if string(row[2]) != "t" {
			return nil, true, nil
		}
		places, keys = append(places, string(row[0])), append(keys, string(row[1]))
	}
	forget := func(numbers []int) string {
		var of []string
		for _, n := range numbers {
			of = append(of, places[n])
		}
		return "DELETE FROM courier_target.missed_row WHERE ctid = ANY (" + literal(textArray(of)) + "::pg_catalog.tid[])"
	}
	found, err := s.placesOf(ctx, table, keys)
	if err != nil {
		return nil, false, err
	}
	jobs, numbers := table.Rows(found, forget)
	var rest []int
	for n := range places {
		if !slices.Contains(numbers, n) {
			rest = append(rest, n)
		}
	}
	if len(rest) > 0 {
		// another shipper's rows may be in their places by now
		err = s.link.Exec(ctx, s.holdPosition()+";\n"+forget(rest))
	}
	return jobs, false, err
}

// placesOf finds the leaf and the place of rows by their keys, given as JSON.
func (s *Shipper) placesOf(ctx context.Context, table *copydata.Table, keys []string) ([]copydata.Place, error) {
	var conditions []string
	for n, i := range table.Relation.Keys() {
		conditions = append(conditions, table.SameKey(i, fmt.Sprintf("(k.k ->> %d)", n)))
	}
	sql := "SELECT t.tableoid, t.ctid, k.n - 1 FROM (SELECT j::pg_catalog.json AS k, n FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS u (j, n)) AS k JOIN " +
		table.From() + " AS t ON " + strings.Join(conditions, " AND ")
	rows, err := s.session.Query(session.WithLimit(ctx, countLimit), sql, textArray(keys))
	if err != nil {
		return nil, fmt.Errorf("look for rows of table %s: %w", table, err)
	}
	places := make([]copydata.Place, len(rows))
	for i, row := range rows {
		leaf, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look for rows of table %s: %w", table, err)
		}
		number, err := strconv.Atoi(string(row[2]))
		if err != nil {
			return nil, fmt.Errorf("look for rows of table %s: %w", table, err)
		}
		places[i] = copydata.Place{Leaf: uint32(leaf), Row: string(row[1]), Number: number}
	}
	return places, nil
}

// restartCopies is the statement by which tables that are partial begin anew, when
// a transaction is set aside: rows copied before it wait for what it does, those
// copied behind it have it already, and a retry could not tell which is which.
func (s *Shipper) restartCopies() string {
	return "UPDATE courier_target.copying SET added = '' WHERE subscription = " + literal(s.sub.ProgressKey)
}

// forgetPartial takes over that they do.
func (s *Shipper) forgetPartial() {
	for oid := range s.catalog.partial {
		s.setPending(oid)
		s.log.Info("a transaction was set aside, and a table that was being copied is copied anew",
			"subscription", s.name, "table", s.catalog.tables[oid].Schema+"."+s.catalog.tables[oid].Name)
	}
	s.keep()
}

// restartTable makes a partial table pending. What the target has of it is merged, or
// goes if it is copied in one transaction now.
func (s *Shipper) restartTable(ctx context.Context, table *copydata.Table, why string) error {
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.holdPosition())
	script.Append("SET LOCAL statement_timeout = 0")
	script.Append(fmt.Sprintf("SELECT courier_target.rebuild_indexes(%s, %d)", literal(s.sub.ProgressKey), table.OID))
	script.Append(s.restartCopies() + " AND relation = " + strconv.FormatUint(uint64(table.OID), 10))
	script.Append("COMMIT")
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return s.explainCopy(ctx, &copydata.TableError{Table: table, Err: err})
	}
	s.setPending(table.OID)
	s.log.Info(why+", and is copied anew",
		"subscription", s.name, "node", s.sub.Node, "table", table.String())
	return nil
}

// setPending takes over that a partial table begins anew.
func (s *Shipper) setPending(oid uint32) {
	delete(s.catalog.partial, oid)
	delete(s.copying.partial, oid)
	delete(s.copying.missed, oid)
	s.catalog.tables[oid].Filter.Partial = false
	s.catalog.pending[oid], s.copying.pending[oid], s.copying.own[oid] = true, true, true
}
