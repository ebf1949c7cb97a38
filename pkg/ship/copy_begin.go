package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// The policies of option on_existing.
const (
	existingError    = "error"
	existingMerge    = "merge"
	existingTruncate = "truncate"
)

// beginTables makes pending tables partial, and copies those at once that can't
// be. Of all tables that wait none is begun before each was found fit.
func (s *Shipper) beginTables(ctx context.Context, tables []*Table, end change.Position, epoch copydata.Epoch) error {
	if err := s.checkPending(ctx); err != nil {
		return err
	}
	var begun, merged []*copydata.Table
	var whole []*Table
	for _, table := range tables {
		if !s.copying.pending[table.OID] {
			continue
		}
		described, byKey, err := s.describe(ctx, table)
		if err != nil {
			return err
		}
		if !byKey {
			whole = append(whole, table)
			continue
		}
		if err = described.Plan(ctx, chunk.Local(s.session), s.copying.copier, nil); err != nil {
			return err
		}
		if s.onExisting(table.OID) == existingMerge {
			merged = append(merged, described)
		} else {
			begun = append(begun, described)
		}
	}
	if err := s.emptyLater(ctx, append(slices.Clone(begun), merged...), whole); err != nil {
		return err
	}
	if err := s.beginByKey(ctx, begun, end); err != nil {
		return err
	}
	// One after the other: what interrupts a merge leaves those before it as they are,
	// and where they take long each has a snapshot of its own.
	for i, table := range merged {
		if i > 0 && !s.now().Before(epoch.Until) {
			break
		}
		if err := s.mergeTable(ctx, table, epoch); err != nil {
			return err
		}
		if err := s.beginByKey(ctx, merged[i:i+1], end); err != nil {
			return err
		}
	}
	if len(whole) > 0 {
		return s.copyWhole(ctx, whole, end)
	}
	return nil
}

// checkPending makes sure that each pending table can be copied: before anything
// of any is written.
func (s *Shipper) checkPending(ctx context.Context) error {
	for _, table := range s.inOrder(s.copying.pending) {
		oid := table.OID
		if s.copying.checked[oid] {
			continue
		}
		described, byKey, err := s.describe(ctx, table)
		if err != nil {
			return s.explainDrift(ctx, table, err)
		}
		if err = s.requireWritable(ctx, table); err != nil {
			return err
		}
		if err = s.requireVisible(ctx, described); err != nil {
			return err
		}
		if err = s.requireUnreferred(ctx, table, described, byKey); err != nil {
			return err
		}
		if s.onExisting(oid) == existingError {
			if err = s.requireEmpty(ctx, table); err != nil {
				return err
			}
		}
		s.copying.checked[oid] = true
	}
	return nil
}

// explainDrift explains an error of describing a table.
func (s *Shipper) explainDrift(ctx context.Context, table *Table, err error) error {
	if errors.As(err, new(*render.DriftError)) {
		return s.stopCopy(ctx, table, err)
	}
	return err
}

// onExisting is what is done about rows that the node has. Those of a copy that
// was given up are from here.
func (s *Shipper) onExisting(oid uint32) string {
	if policy := s.copying.policy[oid]; policy != existingError || !s.copying.own[oid] {
		return policy
	}
	return existingMerge
}

// beginByKey notes tables as partial, at the position of the pinned snapshot.
func (s *Shipper) beginByKey(ctx context.Context, tables []*copydata.Table, end change.Position) error {
	if len(tables) == 0 {
		return nil
	}
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.holdPosition())
	script.Append("SELECT pg_catalog.set_config('synchronous_commit', 'on', true)")
	for _, table := range tables {
		key := literal(s.sub.ProgressKey)
		switch s.onExisting(table.OID) {
		case existingTruncate:
			script.Append(emptyTarget(table))
		case existingMerge:
			table.Tolerant = true
		}
		if s.sub.Options.CopyIndexes == "rebuild" && s.onExisting(table.OID) != existingMerge && table.Target.Plain() {
			script.Append(fmt.Sprintf("SELECT courier_target.drop_indexes(%s, %d, %s)", key, table.OID, literal(table.Target.Name())))
		}
		for _, note := range []string{"copied", "copied_chunk", "missed_row"} {
			script.Append(fmt.Sprintf("DELETE FROM courier_target.%s WHERE subscription = %s AND relation = %d", note, key, table.OID))
		}
		script.Append(fmt.Sprintf(`INSERT INTO courier_target.copying (subscription, relation, added) VALUES (%s, %d, %s)
			ON CONFLICT (subscription, relation) DO UPDATE SET added = excluded.added, began_at = pg_catalog.clock_timestamp()`,
			key, table.OID, literal(s.copying.names[table.OID])))
		// the rows copied are later than those of any letter
		if overtakes := s.overtakenByCopy(table.OID, end); len(overtakes) > 0 {
			script.Append(s.overtakeStatement(overtakes))
		}
	}
	script.Append("COMMIT")
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return s.stopCopy(ctx, s.catalog.tables[tables[0].OID], err)
	}
	for _, table := range tables {
		s.log.Info("copying a table", "subscription", s.name, "node", s.sub.Node, "table", table.String(), "chunks", table.ChunksTotal)
		s.setPartial(table.OID, table)
	}
	return nil
}

func (s *Shipper) setPartial(oid uint32, table *copydata.Table) {
	delete(s.catalog.pending, oid)
	delete(s.catalog.kept, oid)
	delete(s.copying.pending, oid)
	s.copying.partial[oid] = table
	s.catalog.partial[oid] = true
	s.catalog.tables[oid].Filter.Partial = true
}

func (s *Shipper) setCopied(oid uint32) {
	delete(s.catalog.pending, oid)
	delete(s.catalog.kept, oid)
	delete(s.copying.pending, oid)
	delete(s.copying.partial, oid)
	delete(s.copying.missed, oid)
	delete(s.catalog.partial, oid)
	s.catalog.tables[oid].Filter.Partial = false
}

// holdPosition keeps the target at its position until its transaction ends.
func (s *Shipper) holdPosition() string {
	return "SELECT courier_target.hold_position(" + literal(s.sub.ProgressKey) + ", " + literal(s.head) + ")"
}

// mergeTable makes the rows that the node has of a table which is to be merged some
// of the source's.
func (s *Shipper) mergeTable(ctx context.Context, table *copydata.Table, epoch copydata.Epoch) error {
	s.log.Info("merging a table", "subscription", s.name, "node", s.sub.Node, "table", table.String())
	jobs, err := table.MergeJobs(ctx, s.link.Query)
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return nil
	}
	err = s.copying.copier.Merge(ctx, epoch, jobs)
	if copydata.Cut(err) {
		return ErrStopping
	}
	var held *copydata.HeldError
	if errors.As(err, &held) {
		return s.refuseReferred(ctx, s.catalog.tables[held.Table.OID], s.heldBy(held.Table.OID), existingMerge, held.Reason)
	}
	return s.explainCopy(ctx, err)
}

// copyPrivileges are what it takes to do with the rows of a table what a policy
// says. Changes that come meanwhile may take more.
func copyPrivileges(policy string) []string {
	switch policy {
	case existingMerge:
		return []string{"SELECT", "INSERT", "DELETE"}
	case existingTruncate:
		return []string{"INSERT", "TRUNCATE"}
	}
	return []string{"INSERT"}
}

// requireWritable makes sure that the role may do on the node what the copy of a
// table takes.
func (s *Shipper) requireWritable(ctx context.Context, table *Table) error {
	needed := copyPrivileges(s.onExisting(table.OID))
	rows, err := s.link.Query(ctx, fmt.Sprintf(`SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
		(SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, p) OR p IN ('SELECT', 'INSERT')
		        AND pg_catalog.has_any_column_privilege(c.oid, CASE WHEN p IN ('SELECT', 'INSERT') THEN p ELSE 'SELECT' END))
		 FROM pg_catalog.unnest(ARRAY[%s]::pg_catalog.text[]) AS p)
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = %s AND c.relname = %s`, literals(needed), literal(table.Schema), literal(table.Name)), 2)
	if err != nil {
		return err
	}
	stop := s.newCopyStop(table, &session.Error{SQLState: "42501", Message: "permission denied for table " + table.Name})
	stop.refused = needed
	switch {
	case len(rows) == 0 || string(rows[0][0]) != "t":
		stop.Err = &session.Error{SQLState: "42501", Message: "permission denied for schema " + table.Schema}
	case string(rows[0][1]) == "t":
		return nil
	}
	stop.Advice = s.advice(stop.Err, stop.Table)
	return s.explainRefusal(ctx, stop)
}

// requireReadable makes sure that the role may read the tables that wait here: what
// locks them would fail without a word about the remedy.
func (s *Shipper) requireReadable(ctx context.Context) error {
	for _, table := range s.inOrder(s.copying.pending) {
		if s.copying.checked[table.OID] {
			continue
		}
		rows, err := s.session.Query(ctx, `SELECT pg_catalog.quote_ident(current_user::pg_catalog.text), pg_catalog.concat_ws(' ',
			    CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN
			        pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, current_user) END,
			    CASE WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN
			        pg_catalog.format('GRANT SELECT ON %I.%I TO %I;', n.nspname, c.relname, current_user) END)
			FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.oid = $1::pg_catalog.oid`, strconv.FormatUint(uint64(table.OID), 10))
		if err != nil {
			return fmt.Errorf("look at the privileges on table %s.%s: %w", table.Schema, table.Name, err)
		}
		if len(rows) == 0 || len(rows[0][1]) == 0 {
			continue
		}
		stop := s.newCopyStop(table, &session.Error{SQLState: "42501",
			Message: fmt.Sprintf("role %s may not read the table here, on the source", rows[0][0])})
		stop.Advice = fmt.Sprintf("Run here: %s Shipping then goes on by itself.", rows[0][1])
		return stop
	}
	return nil
}

// requireEmpty refuses to copy into a table that holds rows: some would be there
// twice.
func (s *Shipper) requireEmpty(ctx context.Context, table *Table) error {
	name := tableName{table.Schema, table.Name}
	remote := s.catalog.remote[name]
	only := ""
	if remote.Only {
		only = "ONLY "
	}
	if remote.RowSecurity { // of rows that it hides nothing can be known
		if err := s.link.Exec(ctx, "SET row_security = on"); err != nil {
			return err
		}
	}
	rows, err := s.link.Query(ctx, "SELECT EXISTS (SELECT FROM "+only+identifier(name.schema)+"."+identifier(name.name)+")", 1)
	if err != nil {
		return s.stopCopy(ctx, table, err)
	}
	if remote.RowSecurity {
		if err := s.link.Exec(ctx, "SET row_security = off"); err != nil {
			return err
		}
	}
	if string(rows[0][0]) == "t" {
		stop := s.newCopyStop(table, &session.Error{SQLState: "55000", Message: "the table on the node already holds rows"})
		stop.Advice = fmt.Sprintf("Empty table %s on node %s; or set the subscription's option on_existing to merge, which makes its rows equal to the source's, or to truncate; or create the subscription with copy_data => false.", stop.Table, s.sub.Node)
		return stop
	}
	return nil
}
