package ship

import (
	"context"
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/copydata"
)

// copyWhole copies tables from the pinned snapshot in one transaction on the
// target: those whose changes can't be applied to a part of them, because rows
// have no key on either side or not all changes are sent. It takes as long as it
// takes; a crash leaves nothing of it, and it begins again.
func (s *Shipper) copyWhole(ctx context.Context, tables []*Table, end change.Position) error {
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.holdPosition())
	script.Append("SELECT pg_catalog.set_config('synchronous_commit', 'on', true)")
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return fmt.Errorf("begin the copy to node %s: %w", s.sub.Node, err)
	}
	var all, existing []*copydata.Table
	for _, table := range tables {
		described, _, err := s.describe(ctx, table)
		if err != nil {
			return err
		}
		all = append(all, described)
		if s.onExisting(table.OID) != existingError {
			existing = append(existing, described)
		}
	}
	circular := s.catalog.circular && !s.link.Replica
	if circular {
		script = s.nextScript()
		script.Append("SET CONSTRAINTS ALL DEFERRED")
		s.emptyCircle(script, existing)
		if err := s.link.Exec(ctx, script.String()); err != nil {
			return s.explainCopy(ctx, &copydata.TableError{Table: all[0], Err: err})
		}
	}
	for _, described := range all {
		s.log.Info("copying a table in one transaction", "subscription", s.name, "node", s.sub.Node, "table", described.String())
		if err := s.copyOneWhole(ctx, described, end, !circular); err != nil {
			return s.explainCopy(ctx, &copydata.TableError{Table: described, Err: err})
		}
	}
	if circular { // an error at the end would not tell that it is of these rows
		if err := s.link.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return s.explainCopy(ctx, &copydata.TableError{Table: all[0], Err: err})
		}
	}
	return s.endCopies(ctx, all)
}

func (s *Shipper) copyOneWhole(ctx context.Context, table *copydata.Table, end change.Position, empty bool) error {
	script := s.nextScript()
	script.Append("SET LOCAL row_security = off") // if the table before was under it
	switch policy := s.onExisting(table.OID); {
	case !empty:
	case policy == existingTruncate:
		script.Append(emptyTarget(table))
	case policy == existingMerge: // readers see the old rows or the new ones
		script.Append("DELETE FROM " + onlyTarget(table))
	}
	script.Append(s.noteCopied(table.OID))
	// the rows copied are later than those of any letter
	if overtakes := s.overtakenByCopy(table.OID, end); len(overtakes) > 0 {
		script.Append(s.overtakeStatement(overtakes))
	}
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return err
	}
	if err := table.Plan(ctx, chunk.Local(s.session), s.copying.copier, nil); err != nil {
		return err
	}
	if err := s.copying.copier.Whole(ctx, s.session, s.link, table); err != nil {
		return err
	}
	if table.Target.RowSecurity() { // it may hide rows
		return nil
	}
	return s.verify(ctx, table)
}
