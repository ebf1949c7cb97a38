package render

import (
	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

// Rows are written as SELECT unnest(a), unnest(b): measured a third faster than
// FROM unnest(a, b), which stores its rows before it returns the first. In that
// form every array must have the same length, which here they have.

// unnest appends the rows' values of one column as a set.
func (s *Script) unnest(c *column, rows []batch.Row, key bool) {
	if c.split && s.unnestText(c, rows, key) {
		return
	}
	b := append(s.text, "pg_catalog.unnest('{"...)
	for i := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		tuple := rows[i].New
		if key {
			tuple = rows[i].Key
		}
		b = appendElement(b, &tuple[c.source])
	}
	if c.direct {
		b = append(b, "}'::"...)
		b = append(b, c.typ...)
		b = append(b, "[])"...)
	} else {
		b = append(b, "}'::pg_catalog.text[])::"...)
		b = append(b, c.typ...)
	}
	s.text = b
}

// firstTx returns the lowest transaction number among rows.
func firstTx(rows []batch.Row) int {
	first := rows[0].Tx
	for i := range rows {
		first = min(first, rows[i].Tx)
	}
	return first
}

// insertBytes is how many bytes of values an INSERT has at most, unless it has one row.
// The target goes over them some eight times, and is the faster for it if its
// processor's cache holds them.
const insertBytes = 256 << 10

// inserts appends rows, as several statements if they are long.
func (s *Script) inserts(t *Target, rows []batch.Row, op change.Op) {
	if len(rows) == 0 {
		return
	}
	s.secure(t, true)
	defer s.secure(t, false)
	for len(rows) > 0 {
		n := fitting(rows)
		s.insert(t, rows[:n], op)
		rows = rows[n:]
	}
}

// fitting is how many of some rows fit into one INSERT.
func fitting(rows []batch.Row) int {
	bytes := 0
	for i := range rows {
		for j := range rows[i].New {
			bytes += len(rows[i].New[j].Data)
		}
		if bytes > insertBytes {
			return max(i, 1)
		}
	}
	return len(rows)
}

func (s *Script) insert(t *Target, rows []batch.Row, op change.Op) {
	s.begin(Statement{Relation: t.relation, Op: op, Rows: len(rows), Tx: firstTx(rows), Change: -1})
	s.insertInto(t)
	if len(rows) == 1 {
		s.values(t, rows[0].New, "VALUES (")
		s.write(")")
	} else {
		s.write("SELECT ")
		for i := range t.columns[:t.written] {
			if i > 0 {
				s.write(", ")
			}
			s.unnest(&t.columns[i], rows, false)
		}
	}
	if op == change.Upsert {
		s.onConflict(t)
	}
}

// insertInto appends the head of an INSERT.
func (s *Script) insertInto(t *Target) {
	s.write("INSERT INTO ")
	s.text = append(s.text, t.name...)
	if t.table.Name == "excluded" { // ON CONFLICT has another of that name
		s.write(" AS t")
	}
	s.write(" (")
	for i := range t.columns[:t.written] {
		if i > 0 {
			s.write(", ")
		}
		s.text = append(s.text, t.columns[i].name...)
	}
	s.write(") ")
	if t.identity {
		s.write("OVERRIDING SYSTEM VALUE ")
	}
}

// values appends a word and a row's literals, whose types the columns give.
func (s *Script) values(t *Target, row []change.Value, word string) {
	s.write(word)
	for i := range t.columns[:t.written] {
		if i > 0 {
			s.write(", ")
		}
		s.text = appendValue(s.text, &row[t.columns[i].source])
	}
}

// onConflict appends the clause that turns an insert into an upsert.
func (s *Script) onConflict(t *Target) {
	if len(t.conflict) == 0 {
		return
	}
	s.write(" ON CONFLICT (")
	s.text = append(s.text, t.conflict...)
	s.write(") DO ")
	set := false
	for i := range t.columns {
		c := &t.columns[i]
		if c.key || c.always {
			continue
		}
		if set {
			s.write(", ")
		} else {
			s.write("UPDATE SET ")
			set = true
		}
		s.text = append(s.text, c.name...)
		s.write(" = EXCLUDED.")
		s.text = append(s.text, c.name...)
	}
	if !set {
		s.write("NOTHING")
	}
}

func (s *Script) deletes(t *Target, rows []batch.Row, unsure int, check bool) {
	if len(rows) == 0 {
		return
	}
	check = check && t.filter.complete() || t.table.RowSecurity // it hides rows
	s.secure(t, true)
	defer s.secure(t, false)
	s.begin(Statement{Relation: t.relation, Op: change.Delete, Rows: len(rows), Tx: firstTx(rows), Change: -1,
		Expected: t.expected(len(rows) - unsure)})
	if check {
		s.write("WITH u AS (")
	}
	s.write("DELETE FROM ", t.only)
	s.text = append(s.text, t.name...)
	s.write(" AS t")
	if len(rows) == 1 {
		s.whereKey(t, rows[0].Key)
	} else {
		s.write(" USING (SELECT ")
		s.keySets(t, rows)
		s.write(") AS u")
		s.joinKey(t)
	}
	if check {
		s.check(t, len(rows))
	}
}

func (s *Script) updates(t *Target, group *batch.Updates, check bool) error {
	for i := range group.Rows {
		if !group.KeyChanged {
			break
		}
		if err := t.requireMovable(group.Rows[i].Key, group.Rows[i].New); err != nil {
			return err
		}
	}
	set := t.settable(s.columns[:0], group.Columns)
	s.columns = set
	rows := group.Rows
	for i := range rows {
		if !t.frozen {
			break
		}
		if err := t.requireSame(rows[i].New); err != nil {
			return err
		}
	}
	if len(rows) == 0 || len(set) == 0 {
		return nil
	}
	check = check && t.filter.complete() || t.table.RowSecurity // it hides rows
	s.secure(t, true)
	defer s.secure(t, false)
	s.begin(Statement{Relation: t.relation, Op: change.Update, Rows: len(rows), Tx: firstTx(rows), Change: -1,
		Expected: t.expected(len(rows))})
	if check {
		s.write("WITH u AS (")
	}
	if len(rows) == 1 {
		s.updateOne(t, set, rows[0].New)
		s.whereKey(t, rows[0].Key)
	} else {
		s.write("UPDATE ", t.only)
		s.text = append(s.text, t.name...)
		s.write(" AS t SET ")
		for n, i := range set {
			if n > 0 {
				s.write(", ")
			}
			s.text = append(s.text, t.columns[i].name...)
			s.write(" = u.c")
			s.text = appendInt(s.text, i)
		}
		s.write(" FROM (SELECT ")
		s.keySets(t, rows)
		for _, i := range set {
			s.write(", ")
			s.unnest(&t.columns[i], rows, false)
			s.write(" AS c")
			s.text = appendInt(s.text, i)
		}
		s.write(") AS u")
		s.joinKey(t)
	}
	if check {
		s.check(t, len(rows))
	}
	return nil
}

// updateOne appends an UPDATE of one row up to its WHERE.
func (s *Script) updateOne(t *Target, set []int, row []change.Value) {
	s.write("UPDATE ", t.only)
	s.text = append(s.text, t.name...)
	s.write(" AS t SET ")
	for n, i := range set {
		if n > 0 {
			s.write(", ")
		}
		s.text = append(s.text, t.columns[i].name...)
		s.write(" = ")
		s.text = appendValue(s.text, &row[t.columns[i].source])
	}
}

// keySets appends the rows' keys on the target as sets k0, k1, ….
func (s *Script) keySets(t *Target, rows []batch.Row) {
	first := true
	for i := range t.columns {
		if !t.columns[i].key {
			continue
		}
		if !first {
			s.write(", ")
		}
		first = false
		s.unnest(&t.columns[i], rows, true)
		s.write(" AS k")
		s.text = appendInt(s.text, i)
	}
}

// joinKey appends the condition that joins t with keySets. It says "equal" in
// ways that an index can answer but a merge join can't: where the statistics of t
// claim that it is empty, the planner would start from t, in the order of its
// index, and go through all keys for each of its rows.
func (s *Script) joinKey(t *Target) {
	word := " WHERE t."
	for i := range t.columns {
		c := &t.columns[i]
		if !c.key {
			continue
		}
		s.write(word)
		s.text = append(s.text, c.name...)
		if c.equal == "=" {
			s.write(" >= u.k")
			s.text = appendInt(s.text, i)
			s.write(c.suffix, " AND t.")
			s.text = append(s.text, c.name...)
			s.write(" <= u.k")
			s.text = appendInt(s.text, i)
			s.write(c.suffix)
		} else { // an extension's type: only its equality is known
			s.write(" ", c.equal, " ANY (ARRAY[u.k")
			s.text = appendInt(s.text, i)
			s.write("])")
		}
		word = " AND t."
	}
}

// whereKey appends the condition that finds one row of t by its key.
func (s *Script) whereKey(t *Target, key []change.Value) {
	word := " WHERE t."
	for i := range t.columns {
		c := &t.columns[i]
		if !c.key {
			continue
		}
		s.write(word)
		s.text = append(s.text, c.name...)
		s.write(" ", c.equal, " ")
		s.text = appendValue(s.text, &key[c.source])
		s.write("::", c.typ, c.suffix)
		word = " AND t."
	}
}
