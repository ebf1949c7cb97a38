package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// What one piece of a copy reads: pages of the table, fewer if much of it is out
// of line.
const (
	mostCopyBlocks = 64
	copyBytes      = 1 << 20
)

// copyPending copies the tables the target has yet to get, in one transaction
// there and from one snapshot here. What other tables have queued up to that
// snapshot is shipped first, so the target never shows a mixture; the copied
// tables' own changes up to it are in the copy.
func (s *Shipper) copyPending(ctx context.Context) error {
	// Locked before the snapshot is taken, and so of the same content in it.
	locked := make(map[uint32]string)
	var names []string
	for oid := range s.catalog.pending {
		table := s.catalog.tables[oid]
		locked[oid] = identifier(table.Schema) + "." + identifier(table.Name)
		names = append(names, locked[oid])
	}
	slices.Sort(names)
	s.notes.paused = true
	defer func() { s.notes.paused = false }()
	return s.session.Pinned(ctx, names, func() error {
		// the configuration as of the snapshot
		if err := s.reload(ctx); err != nil {
			return err
		}
		end, err := s.copyPosition(ctx)
		if err != nil {
			return err
		}
		if err = s.shipUpTo(ctx); err != nil {
			return err
		}
		var tables []*Table
		for oid := range s.catalog.pending {
			table := s.catalog.tables[oid]
			// one added or renamed meanwhile waits for the next time
			if locked[oid] == identifier(table.Schema)+"."+identifier(table.Name) {
				tables = append(tables, table)
			}
		}
		// commands shipped just now may have changed them
		var names []tableName
		for _, table := range tables {
			names = append(names, tableName{table.Schema, table.Name})
		}
		if len(names) > 0 {
			if err = s.catalog.loadRemoteTables(ctx, s.link, names); err != nil {
				return err
			}
		}
		return s.copyTables(ctx, tables, end)
	})
}

// copyPosition is the position of the pinned snapshot. What it sees is on disk
// here before the target learns of it.
func (s *Shipper) copyPosition(ctx context.Context) (change.Position, error) {
	position, err := s.flushedPosition(ctx, "courier.position()")
	if err != nil {
		return change.Position{}, fmt.Errorf("take the position of the copy: %w", err)
	}
	return position, nil
}

// shipUpTo ships the changes that the pinned snapshot sees.
func (s *Shipper) shipUpTo(ctx context.Context) error {
	if s.position == nil {
		// Commands and events queued since the subscription began. No table has
		// been copied yet, so no row goes with them.
		if err := s.beginProgress(ctx); err != nil {
			return err
		}
	}
	if s.position.End != nil {
		if err := s.ship(ctx, queue.Resume(*s.position)); err != nil {
			return err
		}
	}
	interval, _, err := queue.Next(ctx, s.session, s.sub.ID, s.position.Start, s.sub.Generation, 0)
	if err != nil || interval == nil {
		return err
	}
	return s.ship(ctx, interval)
}

// beginProgress makes the target's progress begin where the subscription does.
func (s *Shipper) beginProgress(ctx context.Context) error {
	start, err := s.flushedPosition(ctx, literal(s.sub.Start))
	if err != nil {
		return fmt.Errorf("take the position of the start: %w", err)
	}
	if err = s.link.Exec(ctx, s.startProgress(start)); err != nil {
		return err
	}
	s.position, s.head = &start, start.String()
	return nil
}

// copyTables copies tables inside one transaction on the target, which also
// moves the progress there, so that no change the copy holds is shipped again.
func (s *Shipper) copyTables(ctx context.Context, tables []*Table, end change.Position) error {
	slices.SortFunc(tables, func(a, b *Table) int {
		if d := s.catalog.ranks[a.OID] - s.catalog.ranks[b.OID]; d != 0 {
			return d
		}
		return strings.Compare(a.Schema+"."+a.Name, b.Schema+"."+b.Name)
	})
	if err := s.requireEmpty(ctx, tables); err != nil {
		return err
	}
	s.tellState("copying")
	script := s.nextScript()
	script.Append("BEGIN")
	script.Append(s.advance(end.String(), end.Flushed, true))
	for _, table := range tables {
		script.Append(fmt.Sprintf(`INSERT INTO courier_target.copied (subscription, relation, added) VALUES (%s, %d, %s)
			ON CONFLICT (subscription, relation) DO UPDATE SET added = excluded.added, copied_at = pg_catalog.clock_timestamp()`,
			literal(s.sub.ProgressKey), table.OID, literal(table.Added.String())))
		// the rows copied are later than those of any letter
		if overtakes := s.overtakenByCopy(table.OID, end); len(overtakes) > 0 {
			script.Append(s.overtakeStatement(overtakes))
		}
	}
	if err := s.link.Exec(ctx, script.String()); err != nil {
		return fmt.Errorf("begin the copy to node %s: %w", s.sub.Node, err)
	}
	for _, table := range tables {
		s.log.Info("copying a table", "subscription", s.name, "node", s.sub.Node, "table", table.Schema+"."+table.Name)
		if err := s.copyTable(ctx, table); err != nil {
			return s.stopCopy(ctx, table, err)
		}
	}
	// values that the rows copied may hold
	if err := s.readSequences(ctx); err != nil {
		return err
	}
	if err := s.tellNow(ctx); err != nil {
		return err
	}
	if err := s.link.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("finish the copy to node %s: %w", s.sub.Node, err)
	}
	for _, table := range tables {
		delete(s.catalog.pending, table.OID)
	}
	s.position, s.head = &end, end.String()
	s.undurable, s.lastDurable, s.lastCheck = false, s.now(), s.now()
	s.notes.durable, s.notes.due = s.head, true
	s.shipped += int64(s.unit.shipped)
	s.counts.merge(s.unit.counts)
	s.forgetUnit()
	return nil
}

// requireEmpty refuses to copy into tables that hold rows: some would be there
// twice.
func (s *Shipper) requireEmpty(ctx context.Context, tables []*Table) error {
	for _, table := range tables {
		name := tableName{table.Schema, table.Name}
		remote := s.catalog.remote[name]
		if remote == nil {
			continue // reported when it is written to
		}
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
			stop.Advice = fmt.Sprintf("Empty table %s on node %s, or create the subscription with copy_data => false.", stop.Table, s.sub.Node)
			return stop
		}
	}
	return nil
}

// copyTable copies a table, or the partitions of one, page range by page range.
func (s *Shipper) copyTable(ctx context.Context, table *Table) error {
	relation, columns, err := s.sourceRelation(ctx, table)
	if err != nil {
		return err
	}
	oid := strconv.FormatUint(uint64(table.OID), 10)
	leaves, err := s.session.Query(ctx, `SELECT c.oid::pg_catalog.regclass::pg_catalog.text,
		pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
		pg_catalog.pg_table_size(c.oid)
		FROM pg_catalog.pg_class c
		WHERE c.relkind = 'r' AND (c.oid = $1::pg_catalog.oid
		   OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass)))
		ORDER BY c.oid`, oid)
	if err != nil {
		return fmt.Errorf("look at table %s: %w", relation, err)
	}
	if _, err = (lookup{s.catalog, ctx}).Target(relation); err != nil {
		return err // even if there is no row to write
	}
	condition, err := s.copyCondition(ctx, table)
	if err != nil {
		return err
	}
	sent := false
	for _, leaf := range leaves {
		blocks, err := strconv.ParseInt(string(leaf[1]), 10, 64)
		if err != nil {
			return fmt.Errorf("look at table %s: %w", relation, err)
		}
		size, err := strconv.ParseInt(string(leaf[2]), 10, 64)
		if err != nil {
			return fmt.Errorf("look at table %s: %w", relation, err)
		}
		step := min(max(copyBytes*blocks/max(size, 1), 1), mostCopyBlocks)
		for from := int64(0); from < blocks; from += step {
			rows, err := s.session.Query(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM ONLY "+string(leaf[0])+
				" WHERE ctid >= $1::pg_catalog.tid AND ctid < $2::pg_catalog.tid"+condition,
				fmt.Sprintf("(%d,0)", from), fmt.Sprintf("(%d,0)", from+step))
			if err != nil {
				return fmt.Errorf("read table %s: %w", relation, err)
			}
			script, err := s.renderCopy(ctx, relation, rows)
			if err != nil {
				return err
			}
			if sent {
				if err = s.copied(ctx); err != nil {
					return err
				}
			}
			if sent = len(script.Bytes()) > 0; sent {
				if err = s.link.Send(ctx, script.Bytes()); err != nil {
					return err
				}
			}
			s.unit.shipped += len(rows)
			s.unit.counts.of(table.OID).copied += int64(len(rows))
		}
	}
	if sent {
		return s.copied(ctx)
	}
	return nil
}

// copied waits for the piece of the copy in flight.
func (s *Shipper) copied(ctx context.Context) error {
	outcome, err := s.link.Wait(ctx)
	if err == nil && outcome.Err != nil {
		err = outcome.Err
	}
	return err
}

func (s *Shipper) renderCopy(ctx context.Context, relation *change.Relation, rows []session.Row) (*render.Script, error) {
	s.fold.Reset()
	for _, row := range rows {
		values := make([]change.Value, len(row))
		for i, data := range row {
			values[i] = change.Value{Kind: change.Text, Data: data}
			if data == nil {
				values[i].Kind = change.Null
			}
		}
		s.fold.Add(&change.Change{Op: change.Insert, Relation: relation, New: values}, 0)
	}
	script := s.nextScript()
	segments := s.fold.Segments()
	for i := range segments {
		if err := script.Segment(&segments[i], lookup{s.catalog, ctx}, &render.Options{}); err != nil {
			return nil, err
		}
	}
	return script, nil
}

// sourceRelation describes a table as it is now, without a key, since a copy only
// inserts, and says how its columns are selected as text. Generated columns of the
// key are among them: the node's may be ordinary ones.
func (s *Shipper) sourceRelation(ctx context.Context, table *Table) (*change.Relation, []string, error) {
	// a session returns bytea, and domains over it, as raw bytes
	rows, err := s.session.Query(ctx, `SELECT a.attname, a.atttypid, a.atttypmod,
		pg_catalog.quote_ident(a.attname) || CASE WHEN (
		    WITH RECURSIVE b AS (
		        SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
		        UNION ALL
		        SELECT t.oid, t.typbasetype FROM b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype)
		    SELECT pg_catalog.bool_or(b.oid = 'pg_catalog.bytea'::pg_catalog.regtype) FROM b)
		THEN '::pg_catalog.text' ELSE '' END
		FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
		    AND (a.attgenerated = '' OR a.attname = ANY (courier.key_columns(a.attrelid)))
		ORDER BY a.attnum`, strconv.FormatUint(uint64(table.OID), 10))
	if err != nil {
		return nil, nil, fmt.Errorf("look at table %s.%s: %w", table.Schema, table.Name, err)
	}
	relation := &change.Relation{OID: table.OID, Schema: table.Schema, Name: table.Name, Identity: 'n'}
	var selected []string
	for _, row := range rows {
		name := string(row[0])
		if table.Filter.Columns != nil && !table.Filter.Columns[name] {
			continue
		}
		oid, err1 := strconv.ParseUint(string(row[1]), 10, 32)
		typmod, err2 := strconv.ParseInt(string(row[2]), 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, nil, fmt.Errorf("look at table %s: %w", relation, err)
		}
		relation.Columns = append(relation.Columns, change.Column{Name: name, TypeOID: uint32(oid), TypeMod: int32(typmod)})
		selected = append(selected, string(row[3]))
	}
	return relation, selected, nil
}

// stopCopy explains a copy that the target does not take.
func (s *Shipper) stopCopy(ctx context.Context, table *Table, err error) error {
	state := SQLState(err)
	if state == "" || (state[:2] != "22" && state[:2] != "23" && state[:2] != "42") {
		return fmt.Errorf("copy table %s.%s to node %s: %w", table.Schema, table.Name, s.sub.Node, err)
	}
	stop := s.newCopyStop(table, err)
	stop.Advice = Hint(err)
	if stop.Advice == "" {
		stop.Advice = s.advice(err, stop.Table)
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
