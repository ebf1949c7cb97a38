package ship

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Where foreign keys of the node act, rows can only go after those that refer to
// them, or together with them.

// emptyTarget empties a table, also one that foreign keys refer to.
func emptyTarget(table *copydata.Table) string {
	return fmt.Sprintf("DO $courier$ BEGIN TRUNCATE TABLE %[1]s; EXCEPTION WHEN feature_not_supported THEN DELETE FROM %[1]s; END $courier$",
		onlyTarget(table))
}

func onlyTarget(table *copydata.Table) string {
	if table.Target.Plain() {
		return "ONLY " + table.Target.Name()
	}
	return table.Target.Name()
}

// emptyLater empties tables that are copied later than some that begin, and that
// are to be emptied then: their rows would refer to what goes now. Tables that are to
// be emptied now are emptied together with them.
func (s *Shipper) emptyLater(ctx context.Context, byKey []*copydata.Table, whole []*Table) error {
	if len(s.catalog.foreign) == 0 || s.catalog.circular {
		return nil
	}
	later := make(map[uint32]*copydata.Table)
	var now []*copydata.Table
	for _, table := range byKey {
		policy := s.onExisting(table.OID)
		if policy == existingTruncate {
			now = append(now, table)
		}
		if policy != existingError {
			if err := s.findLater(ctx, table.OID, policy == existingTruncate, later); err != nil {
				return err
			}
		}
	}
	for _, table := range whole {
		if s.onExisting(table.OID) != existingError {
			if err := s.findLater(ctx, table.OID, true, later); err != nil {
				return err
			}
		}
	}
	if len(later) == 0 {
		return nil
	}
	tables := now
	for _, table := range later {
		tables = append(tables, table)
	}
	s.childrenFirst(tables)
	var deletions strings.Builder
	for _, table := range tables {
		deletions.WriteString("DELETE FROM " + onlyTarget(table) + ";\n")
	}
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.holdPosition())
	script.Append(truncateOr(tables, deletions.String()))
	script.Append("COMMIT")
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return s.stopCopy(ctx, s.catalog.tables[tables[0].OID], err)
	}
	return nil
}

// findLater adds the tables to be emptied that refer to one, directly or by way of
// others. If all rows of that go, so do those of tables that are merged by
// replacing theirs.
func (s *Shipper) findLater(ctx context.Context, oid uint32, all bool, later map[uint32]*copydata.Table) error {
	for i := range s.catalog.foreign {
		f := &s.catalog.foreign[i]
		if f.parent != oid || !s.copiedLater(f) || later[f.child] != nil {
			continue
		}
		described, byKey, err := s.describe(ctx, s.catalog.tables[f.child])
		if err != nil {
			return err
		}
		policy := s.onExisting(f.child)
		if policy == existingTruncate || all && policy == existingMerge && !byKey {
			later[f.child] = described
		}
		if err = s.findLater(ctx, f.child, all, later); err != nil {
			return err
		}
	}
	return nil
}

// childrenFirst puts tables in an order in which their rows can be deleted.
func (s *Shipper) childrenFirst(tables []*copydata.Table) {
	slices.SortFunc(tables, func(a, b *copydata.Table) int {
		return cmp.Or(cmp.Compare(s.catalog.ranks[b.OID], s.catalog.ranks[a.OID]), strings.Compare(a.String(), b.String()))
	})
}

// truncateOr empties tables together. If tables besides them refer to some of
// them, it runs other statements.
func truncateOr(tables []*copydata.Table, statements string) string {
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = onlyTarget(table)
	}
	return "DO $courier$ BEGIN TRUNCATE TABLE " + strings.Join(names, ", ") +
		"; EXCEPTION WHEN feature_not_supported THEN " + statements + " END $courier$"
}

// emptyCircle appends what empties tables that refer to each other: in one
// statement, since foreign keys are checked at its end.
func (s *Shipper) emptyCircle(script *render.Script, tables []*copydata.Table) {
	var truncated, merged []*copydata.Table
	for _, table := range tables {
		switch {
		case s.onExisting(table.OID) == existingMerge:
			merged = append(merged, table)
		case table.Target.RowSecurity(): // which a DELETE is subject to
			script.Append(emptyTarget(table))
		default:
			truncated = append(truncated, table)
		}
	}
	if len(truncated) > 0 {
		script.Append(truncateOr(truncated, deleteTogether(append(truncated, merged...))+";"))
	}
	if len(merged) > 0 {
		script.Append(deleteTogether(merged))
	}
}

// deleteTogether deletes all rows of tables in one statement.
func deleteTogether(tables []*copydata.Table) string {
	var parts []string
	for i, table := range tables[:len(tables)-1] {
		parts = append(parts, fmt.Sprintf("d%d AS (DELETE FROM %s)", i, onlyTarget(table)))
	}
	sql := "DELETE FROM " + onlyTarget(tables[len(tables)-1])
	if len(parts) > 0 {
		sql = "WITH " + strings.Join(parts, ", ") + " " + sql
	}
	return sql
}

// requireVisible refuses to merge a table of which row-level security may hide rows:
// they would stay.
func (s *Shipper) requireVisible(ctx context.Context, table *copydata.Table) error {
	if !table.Target.RowSecurity() || s.onExisting(table.OID) != existingMerge {
		return nil
	}
	stop := s.newCopyStop(s.catalog.tables[table.OID], &session.Error{SQLState: "55000",
		Message: "row-level security of the table on the node may hide rows, so it can't be merged"})
	role, err := s.link.Query(ctx, "SELECT pg_catalog.quote_ident(current_user::pg_catalog.text)", 1)
	if err != nil {
		return err
	}
	stop.Advice = fmt.Sprintf("Exempt the role on node %s: ALTER ROLE %s BYPASSRLS; or replace all rows: SELECT courier.alter_subscription_resynchronize_table(%s, %s, 'truncate').",
		s.sub.Node, role[0][0], literal(s.name), literal(typedName(s.catalog.tables[table.OID])))
	return stop
}
