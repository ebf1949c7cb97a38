package ship

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// countLimit is how long it may take to count a table's rows, or to find some of
// them.
const countLimit = 12 * time.Hour

// finishTables makes the tables copied whose last chunk is done.
func (s *Shipper) finishTables(ctx context.Context, tables []*Table, end change.Position) error {
	var done []*copydata.Table
	for _, table := range tables {
		plan := s.copying.partial[table.OID]
		if plan == nil || plan.Outstanding() > 0 || s.copying.missed[table.OID] {
			continue
		}
		if err := s.verify(ctx, plan); err != nil {
			return s.explainCopy(ctx, &copydata.TableError{Table: plan, Err: err})
		}
		done = append(done, plan)
	}
	if len(done) == 0 {
		return nil
	}
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.holdPosition())
	script.Append("SELECT pg_catalog.set_config('synchronous_commit', 'on', true)")
	for _, table := range done {
		script.Append(s.rebuildIndexes(table.OID))
		script.Append(s.noteCopied(table.OID))
	}
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return fmt.Errorf("finish the copy to node %s: %w", s.sub.Node, err)
	}
	return s.endCopies(ctx, done)
}

// noteCopied notes on the target that a table is copied.
func (s *Shipper) noteCopied(oid uint32) string {
	return fmt.Sprintf(`WITH b AS (DELETE FROM courier_target.copying WHERE subscription = %[1]s AND relation = %[2]d),
		c AS (DELETE FROM courier_target.copied_chunk WHERE subscription = %[1]s AND relation = %[2]d),
		m AS (DELETE FROM courier_target.missed_row WHERE subscription = %[1]s AND relation = %[2]d)
		INSERT INTO courier_target.copied (subscription, relation, added) VALUES (%[1]s, %[2]d, %[3]s)
		ON CONFLICT (subscription, relation) DO UPDATE SET added = excluded.added, copied_at = pg_catalog.clock_timestamp()`,
		literal(s.sub.ProgressKey), oid, literal(s.copying.names[oid]))
}

// rebuildIndexes makes the indexes of a table again that were dropped for its copy,
// however long that takes: two statements.
func (s *Shipper) rebuildIndexes(oid uint32) string {
	return fmt.Sprintf("SET LOCAL statement_timeout = 0;\nSELECT courier_target.rebuild_indexes(%s, %d)", literal(s.sub.ProgressKey), oid)
}

// forgetCopy makes the target forget a copy that was begun.
func (s *Shipper) forgetCopy(oid uint32) string {
	return s.rebuildIndexes(oid) + fmt.Sprintf(`;
		DELETE FROM courier_target.copying WHERE subscription = %[1]s AND relation = %[2]d;
		DELETE FROM courier_target.copied_chunk WHERE subscription = %[1]s AND relation = %[2]d;
		DELETE FROM courier_target.missed_row WHERE subscription = %[1]s AND relation = %[2]d`, literal(s.sub.ProgressKey), oid)
}

// endCopies ends the transaction on the target that notes tables as copied.
func (s *Shipper) endCopies(ctx context.Context, tables []*copydata.Table) error {
	// values that the rows copied may hold
	if err := s.readSequences(ctx); err != nil {
		return err
	}
	if err := s.tellNow(ctx); err != nil {
		return err
	}
	if err := s.link.Exec(ctx, "COMMIT"); err != nil {
		s.doubtCopies(tables)
		return fmt.Errorf("finish the copy to node %s: %w", s.sub.Node, err)
	}
	for _, table := range tables {
		s.log.Info("copied a table", "subscription", s.name, "node", s.sub.Node, "table", table.String(), "rows", table.RowsDone)
		s.setCopied(table.OID)
		s.finished(table)
		s.countCopied(table.OID, table.RowsDone, table.TakeSent())
	}
	s.notes.due = true
	return nil
}

// verify counts the rows of a table on both sides, which are at one position.
func (s *Shipper) verify(ctx context.Context, table *copydata.Table) error {
	// the settings that help batches would have it go through an index
	err := s.link.Send(ctx, []byte("SET LOCAL enable_seqscan = on;\nSET LOCAL statement_timeout = 0;\n"+
		"SELECT pg_catalog.count(*) FROM "+onlyTarget(table)))
	if err != nil {
		return err
	}
	here, _, err := session.Value(session.WithLimit(ctx, countLimit), s.session, table.CountQuery())
	outcome, waitErr := s.link.Wait(ctx)
	if err = errors.Join(err, waitErr); err != nil {
		return err
	}
	if outcome.Err != nil {
		return outcome.Err
	}
	if outcome.Value != here {
		return &countError{table: table.String(), node: s.sub.Node, subscription: s.name, here: here, there: outcome.Value}
	}
	return nil
}

// countError says that a copied table does not have as many rows as it should.
type countError struct{ table, node, subscription, here, there string }

// Error implements error.
func (e *countError) Error() string {
	return fmt.Sprintf("the table has %s rows here and %s on the node", e.here, e.there)
}

// SQLState classifies it as object_not_in_prerequisite_state.
func (e *countError) SQLState() string { return "55000" }

// Hint says what to do.
func (e *countError) Hint() string {
	return fmt.Sprintf("Something else writes to table %s on node %s, or a trigger or rule there keeps rows from it. When that is mended, run SELECT courier.alter_subscription_resynchronize_table(%s, %s, 'merge').",
		e.table, e.node, literal(e.subscription), literal(e.table))
}

// explainCopy explains an error of copying a table.
func (s *Shipper) explainCopy(ctx context.Context, err error) error {
	var at *copydata.TableError
	if !errors.As(err, &at) {
		return err // nil, too
	}
	return s.stopCopy(ctx, s.catalog.tables[at.Table.OID], at.Err)
}

// stopCopy explains a copy that the target does not take.
func (s *Shipper) stopCopy(ctx context.Context, table *Table, err error) error {
	state := SQLState(err)
	if state != "55000" && (state == "" || (state[:2] != "22" && state[:2] != "23" && state[:2] != "42")) {
		return fmt.Errorf("copy table %s.%s to node %s: %w", table.Schema, table.Name, s.sub.Node, err)
	}
	stop := s.newCopyStop(table, err)
	stop.Advice = Hint(err)
	if stop.Advice == "" {
		stop.Advice = s.advice(err, stop.Table)
	}
	if state == "23503" || state == "23001" { // restrict_violation
		stop.Advice = fmt.Sprintf("Foreign keys act on node %s. Copy the tables that refer to this one in the same way, 'truncate' or 'merge'; "+
			"make those that go round in a circle DEFERRABLE there; or let the role set session_replication_role. Shipping then goes on by itself.", s.sub.Node)
	}
	return s.explainRefusal(ctx, stop)
}

func (s *Shipper) newCopyStop(table *Table, err error) *StopError {
	return &StopError{Subscription: s.name, Node: s.sub.Node, Op: "copy", Table: table.Schema + "." + table.Name,
		Schema: table.Schema, Name: table.Name, Err: err}
}

// identifier quotes a name for SQL.
func identifier(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
