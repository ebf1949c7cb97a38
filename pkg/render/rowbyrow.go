package render

import (
	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

// Change appends one change, number index of the caller's and made by its
// transaction number tx, as one statement, or none if it is not wanted. It
// returns what Targets returns, or a *NoKeyError.
func (s *Script) Change(c *change.Change, index, tx int, targets Targets, options *Options) error {
	info := Statement{Relation: c.Relation, Op: c.Op, Rows: 1, Tx: tx, Change: index}
	switch c.Op {
	case change.Event:
		s.begin(info)
		s.event(c.Channel, c.Payload, options)
		return nil
	case change.Truncate:
		info.Rows = 0
		truncate := batch.Truncate{Relations: c.Truncated, Uncopied: c.Uncopied, Restart: c.Restart, Cascade: c.Cascade, Where: c.Where}
		return s.truncate(&truncate, info, targets)
	}
	t, err := targets.Target(c.Relation)
	if err != nil || t == nil {
		return err
	}
	return s.one(t, c, info, options.Policy, options.Policy != KeepLocal)
}

// ordered appends a change that cannot be folded to a set-based script.
func (s *Script) ordered(t *Target, c *change.Change, tx int, options *Options) error {
	info := Statement{Relation: c.Relation, Op: c.Op, Rows: 1, Tx: tx, Change: -1}
	return s.one(t, c, info, Error, options.CheckUpdates)
}

// one appends a change of a row. check makes a row that an update does not find
// an error, unless the policy lets it be inserted.
func (s *Script) one(t *Target, c *change.Change, info Statement, policy Policy, check bool) error {
	if !t.filter.Allows(c.Op) {
		return nil
	}
	check = check && t.filter.complete()
	keyless := !t.relation.HasKey() && !t.relation.WholeRow()
	if keyless && (c.Op == change.Update || c.Op == change.Delete) {
		return &NoKeyError{Schema: t.relation.Schema, Table: t.relation.Name, Op: c.Op}
	}
	s.secure(t, true)
	defer s.secure(t, false)
	switch c.Op {
	case change.Insert, change.Upsert:
		s.insertRow(t, c, info, policy)
	case change.Delete:
		info.Expected = t.expected(1)
		s.begin(info)
		check = check && policy == Error && info.Change >= 0 || t.table.RowSecurity
		if check {
			s.write("WITH u AS (")
		}
		s.write("DELETE FROM ", t.only)
		s.text = append(s.text, t.name...)
		s.write(" AS t")
		s.where(t, c.Old)
		if check {
			s.check(t, 1)
		}
	case change.Update:
		if c.Old != nil && t.relation.HasKey() {
			if err := t.requireMovable(c.Old, c.New); err != nil {
				return err
			}
		}
		if err := t.requireSame(c.New); err != nil {
			return err
		}
		s.updateRow(t, c, info, policy, check)
	}
	return nil
}

// insertRow appends an insert or an upsert. Where an insert may meet a row, its
// statement reports 1 if there was none.
func (s *Script) insertRow(t *Target, c *change.Change, info Statement, policy Policy) {
	report := c.Op == change.Insert && policy == ApplyRemote && len(t.conflict) > 0
	if report || c.Op == change.Insert && policy == KeepLocal {
		info.Expected = 1
	}
	s.begin(info)
	if report {
		s.write("WITH i AS (")
	}
	s.insertInto(t)
	s.values(t, c.New, "VALUES (")
	s.write(")")
	switch {
	case c.Op == change.Upsert || policy == ApplyRemote:
		s.onConflict(t)
	case policy == KeepLocal:
		s.write(" ON CONFLICT DO NOTHING")
	}
	if report { // of the table as it was before the statement
		s.write(") SELECT 1 - pg_catalog.count(*) FROM ", t.only)
		s.text = append(s.text, t.name...)
		s.write(" AS t")
		s.whereKey(t, c.New)
	}
}

func (s *Script) updateRow(t *Target, c *change.Change, info Statement, policy Policy, check bool) {
	before := c.Old
	if before == nil {
		before = c.New
	}
	// What the update left as it was is the node's own, as in a batch. An update
	// that changed nothing still has to find its row.
	set := s.settable(t, c, false)
	if len(set) == 0 {
		set = s.settable(t, c, true)
	}
	if len(set) == 0 {
		return
	}
	check = check || t.table.RowSecurity
	info.Expected = t.expected(1)
	s.begin(info)
	insert := policy == ApplyRemote && t.whole(c.New)
	if insert || check {
		s.write("WITH u AS (")
	}
	s.updateOne(t, set, c.New)
	s.where(t, before)
	switch {
	case insert:
		s.write(" RETURNING 1), i AS (")
		s.insertInto(t)
		s.values(t, c.New, "SELECT ")
		s.write(" WHERE NOT EXISTS (SELECT FROM u)")
		s.onConflict(t)
		s.write(") SELECT pg_catalog.count(*) FROM u")
	case check:
		s.check(t, 1)
	}
}

// settable lists the columns that an update may set; same says whether those it
// left as they were are among them.
func (s *Script) settable(t *Target, c *change.Change, same bool) []int {
	s.columns = s.columns[:0]
	for i := range t.columns[:t.written] {
		column := &t.columns[i]
		value := &c.New[column.source]
		if column.always || value.Kind == change.Unchanged || column.key && c.Old == nil || value.Same && !same {
			continue
		}
		s.columns = append(s.columns, i)
	}
	return s.columns
}

// where appends the condition that finds one row.
func (s *Script) where(t *Target, row []change.Value) {
	if t.relation.WholeRow() {
		s.whereRow(t, row)
		return
	}
	s.whereKey(t, row)
}

// whereRow appends the condition that finds one row, any of equal ones, by all
// its columns. Text forms are compared, since not every type has an equality;
// both sides go through the target's output function. They are compared byte by
// byte: the column's collation may take different texts for equal. A ctid is unique only
// together with its table, of which a partitioned one has several.
func (s *Script) whereRow(t *Target, row []change.Value) {
	s.write(" WHERE (t.tableoid, t.ctid) = (SELECT r.tableoid, r.ctid FROM ", t.only)
	s.text = append(s.text, t.name...)
	s.write(" AS r")
	word := " WHERE r."
	for i := range t.columns {
		c := &t.columns[i]
		value := &row[c.source]
		if value.Kind == change.Unchanged {
			continue
		}
		s.write(word)
		word = " AND r."
		s.text = append(s.text, c.name...)
		if value.Kind == change.Null {
			s.write("::pg_catalog.text IS NULL")
			continue
		}
		s.write(`::pg_catalog.text COLLATE "C" = `)
		s.text = appendLiteral(s.text, value.Data)
		s.write("::", c.typ, "::pg_catalog.text")
	}
	s.write(" LIMIT 1)")
}
