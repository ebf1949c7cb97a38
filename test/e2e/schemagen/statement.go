package schemagen

import (
	"fmt"
	"slices"
	"strings"
)

// value is an expression for the column, NULL at times where that is allowed.
func (g *generator) value(c *column) string {
	if !c.notNull && g.one(15) {
		return "NULL::" + c.kind.castType()
	}
	return c.kind.literal(c.kind.text(g.Rand))
}

// writable are the columns that a statement can give values to.
func (t *table) writable() []*column {
	return slices.DeleteFunc(slices.Clone(t.columns), func(c *column) bool { return c.generated != "" })
}

// inserted are columns for an INSERT: all without a value of their own, some of
// the others. overriding says that a column GENERATED ALWAYS is among them.
func (g *generator) inserted(t *table) (columns []*column, overriding string) {
	for _, c := range t.writable() {
		if c.identity != "" && g.one(60) || c.identity == "" && !c.notNull && g.one(15) {
			continue
		}
		if c.identity == "ALWAYS" {
			overriding = " OVERRIDING SYSTEM VALUE"
		}
		columns = append(columns, c)
	}
	if len(columns) == 0 {
		columns = t.writable()[:1]
		if columns[0].identity == "ALWAYS" {
			overriding = " OVERRIDING SYSTEM VALUE"
		}
	}
	return shuffled(g.Rand, columns), overriding
}

func (g *generator) rows(columns []*column, n int) string {
	var rows []string
	for range n {
		var values []string
		for _, c := range columns {
			values = append(values, g.value(c))
		}
		rows = append(rows, "("+strings.Join(values, ", ")+")")
	}
	return strings.Join(rows, ", ")
}

// where chooses rows: one by its key, or some by a hash.
func (g *generator) where(t *table) string {
	by := t.columns
	if len(t.key) > 0 {
		by = t.key
	}
	if len(t.key) > 0 && g.one(60) {
		var terms []string
		for _, c := range t.key {
			if len(terms) == 0 || g.one(60) {
				terms = append(terms, ident(c.name)+" = "+c.kind.literal(c.kind.text(g.Rand)))
			}
		}
		return strings.Join(terms, " AND ")
	}
	return fmt.Sprintf("(hashtext(%s::text) & %d) = %d", ident(pick(g.Rand, by).name), pick(g.Rand, []int{1, 3, 7}), g.IntN(2))
}

// relation is the table, or at times one of its partitions, or ONLY it.
func (g *generator) relation(t *table) string {
	if leaves := t.parted.all(false); leaves != nil && g.one(15) {
		return pick(g.Rand, leaves)
	}
	if t.parted == nil && g.one(20) {
		return "ONLY " + t.quoted
	}
	return t.quoted
}

// set is the list of an UPDATE, of these columns; qualifier stands before those
// that are read.
func (g *generator) set(columns []*column, qualifier string) string {
	var items []string
	for _, c := range columns {
		value := g.value(c)
		if c.identity != "" {
			value = "DEFAULT"
		} else if len(c.kind.steps) > 0 && g.one(40) {
			value = strings.ReplaceAll(pick(g.Rand, c.kind.steps), "$", qualifier+ident(c.name))
		}
		items = append(items, ident(c.name)+" = "+value)
	}
	return strings.Join(items, ", ")
}

// settable are columns for an UPDATE, of the key or not.
func (g *generator) settable(t *table, key bool) []*column {
	columns := slices.DeleteFunc(t.writable(), func(c *column) bool {
		if c.identity != "" && !g.one(20) || c.identity == "ALWAYS" {
			return true // those of the target may be GENERATED ALWAYS
		}
		return slices.Contains(t.key, c) != key
	})
	if len(columns) == 0 {
		return nil
	}
	return some(g.Rand, columns, 1)
}

// statement writes to a table.
func (g *generator) statement() Step {
	t := pick(g.Rand, g.tables)
	if t.identity == byNothing {
		return g.keyless(t)
	}
	for {
		var step Step
		switch n := g.IntN(100); {
		case n < 24:
			step.SQL = g.insert(t)
		case n < 33:
			step.SQL = g.upsert(t)
		case n < 55:
			step.SQL = g.update(t, false)
		case n < 65:
			step.SQL = g.update(t, true)
		case n < 77:
			step.SQL = "DELETE FROM " + g.relation(t) + " WHERE " + g.where(t)
		case n < 81:
			step.SQL = g.swap(t)
		case n < 85:
			step.SQL = g.merge(t)
		case n < 89:
			step = g.copy(t)
		case n < 92:
			step.SQL = g.moved(t)
		case n < 94:
			step.SQL = g.bulk(t)
		case n < 96:
			step.SQL = g.block(t)
		case n < 97:
			step.SQL = g.cursor(t)
		default:
			step.SQL = g.truncate(t)
		}
		if step.SQL != "" {
			return step
		}
	}
}

// keyless tables only get rows, and lose all of them.
func (g *generator) keyless(t *table) Step {
	switch g.IntN(6) {
	case 0:
		return g.copy(t)
	case 1:
		if g.one(20) {
			return Step{SQL: g.truncate(t)}
		}
		if sql := g.bulk(t); sql != "" {
			return Step{SQL: sql}
		}
	}
	return Step{SQL: g.insert(t)}
}

func (g *generator) insert(t *table) string {
	columns, overriding := g.inserted(t)
	return fmt.Sprintf("INSERT INTO %s (%s)%s VALUES %s%s", strings.TrimPrefix(g.relation(t), "ONLY "), names(columns), overriding,
		g.rows(columns, 1+g.IntN(3)), pick(g.Rand, []string{"", "", t.orNothing(), " RETURNING 1"}))
}

// orNothing is ON CONFLICT DO NOTHING, which no deferrable constraint allows.
func (t *table) orNothing() string {
	if len(t.late) > 0 || t.lateRange || t.identity == fullDeferrable {
		return ""
	}
	return " ON CONFLICT DO NOTHING"
}

func (g *generator) upsert(t *table) string {
	columns, overriding := g.inserted(t)
	changed := g.settable(t, false)
	if !t.unique() || t.identity == fullDeferrable || len(changed) == 0 {
		return ""
	}
	var items []string
	for _, c := range changed {
		if slices.Contains(columns, c) && c.identity == "" {
			items = append(items, ident(c.name)+" = excluded."+ident(c.name))
		} else {
			items = append(items, g.set([]*column{c}, "x."))
		}
	}
	return fmt.Sprintf("INSERT INTO %s AS x (%s)%s VALUES %s ON CONFLICT (%s) DO UPDATE SET %s%s", t.quoted, names(columns), overriding,
		g.rows(columns, 1+g.IntN(2)), names(t.key), strings.Join(items, ", "), pick(g.Rand, []string{"", " WHERE x IS NOT NULL"}))
}

func (g *generator) update(t *table, key bool) string {
	changed := g.settable(t, key)
	if len(changed) == 0 {
		return ""
	}
	if !key && t.unique() && g.one(10) { // both
		changed = append(changed, g.settable(t, true)...)
	}
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s", g.relation(t), g.set(changed, ""), g.where(t))
}

// swap lets two rows change their keys, or a value that is unique and deferrable.
func (g *generator) swap(t *table) string {
	if len(t.late) > 0 {
		if c := pick(g.Rand, t.late); c.kind.small && c.generated == "" && c.identity == "" {
			return fmt.Sprintf("UPDATE %s SET %s = 11 - %[2]s WHERE %[2]s BETWEEN 0 AND 11", t.quoted, ident(c.name))
		}
	}
	if len(t.key) == 0 {
		return ""
	}
	c := pick(g.Rand, t.key)
	if !c.kind.small || c.generated != "" || c.identity == "ALWAYS" {
		return ""
	}
	if t.identity == fullDeferrable {
		return fmt.Sprintf("UPDATE %s SET %s = 11 - %[2]s WHERE %[2]s BETWEEN 0 AND 11", t.quoted, ident(c.name))
	}
	a, b := g.IntN(12), g.IntN(12)
	return fmt.Sprintf("UPDATE %s SET %s = 99 WHERE %[2]s = %[3]d; UPDATE %[1]s SET %[2]s = %[3]d WHERE %[2]s = %[4]d; "+
		"UPDATE %[1]s SET %[2]s = %[4]d WHERE %[2]s = 99", t.quoted, ident(c.name), a, b)
}

func (g *generator) merge(t *table) string {
	columns, overriding := g.inserted(t)
	changed := g.settable(t, false)
	if g.have.Version < 150000 || !t.unique() || len(changed) == 0 {
		return ""
	}
	for _, c := range t.key {
		if !slices.Contains(columns, c) {
			return ""
		}
	}
	var on, values, aliases []string
	for i, c := range columns {
		aliases = append(aliases, fmt.Sprintf("v%d", i))
		values = append(values, fmt.Sprintf("s.v%d", i))
		if slices.Contains(t.key, c) {
			on = append(on, fmt.Sprintf("x.%s = s.v%d", ident(c.name), i))
		}
	}
	return fmt.Sprintf(`MERGE INTO %s AS x USING (SELECT DISTINCT ON (%s) * FROM (VALUES %s) v (%s)) s ON %s
		WHEN MATCHED AND %s THEN DELETE WHEN MATCHED THEN UPDATE SET %s WHEN NOT MATCHED THEN INSERT (%s)%s VALUES (%s)`,
		t.quoted, strings.Join(g.keyAliases(t, columns), ", "), g.rows(columns, 1+g.IntN(4)), strings.Join(aliases, ", "), strings.Join(on, " AND "),
		pick(g.Rand, []string{"false", "(hashtext(x::text) & 3) = 0"}), g.set(changed, "x."), names(columns), overriding, strings.Join(values, ", "))
}

// keyAliases are the key's columns of a source of rows.
func (g *generator) keyAliases(t *table, columns []*column) []string {
	var aliases []string
	for i, c := range columns {
		if slices.Contains(t.key, c) {
			aliases = append(aliases, fmt.Sprintf("v%d", i))
		}
	}
	return aliases
}

// copy is in text or CSV form.
func (g *generator) copy(t *table) Step {
	columns, _ := g.inserted(t)
	csv := g.one(40)
	var data strings.Builder
	for range 1 + g.IntN(4) {
		for i, c := range columns {
			if i > 0 {
				data.WriteString(map[bool]string{true: ",", false: "\t"}[csv])
			}
			null := !c.notNull && g.one(15)
			text := c.kind.text(g.Rand)
			switch {
			case csv && !null:
				text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
			case csv:
				text = ""
			case null:
				text = `\N`
			default:
				text = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(text)
			}
			data.WriteString(text)
		}
		data.WriteString("\n")
	}
	return Step{SQL: fmt.Sprintf("COPY %s (%s) FROM STDIN%s", t.quoted, names(columns), map[bool]string{true: " (FORMAT csv)", false: ""}[csv]),
		Copy: data.String()}
}

// moved takes rows out and puts them in again, in one statement.
func (g *generator) moved(t *table) string {
	columns := t.writable()
	for _, c := range columns {
		if c.identity == "ALWAYS" {
			return ""
		}
	}
	var values []string
	for _, c := range columns {
		if len(c.kind.steps) > 0 && g.one(50) {
			values = append(values, strings.ReplaceAll(pick(g.Rand, c.kind.steps), "$", ident(c.name)))
		} else {
			values = append(values, ident(c.name))
		}
	}
	return fmt.Sprintf("WITH gone AS (DELETE FROM %s WHERE %s RETURNING *) INSERT INTO %s (%s) SELECT %s FROM gone",
		t.quoted, g.where(t), t.quoted, names(columns), strings.Join(values, ", "))
}

// bulk inserts many rows, more than fit into a small batch.
func (g *generator) bulk(t *table) string {
	columns, overriding := g.inserted(t)
	var values []string
	counted := len(t.key) == 0
	for _, c := range columns {
		switch {
		case c.kind.small && slices.Contains(t.key, c) && !counted:
			values = append(values, "1000 + i")
			counted = true
		default:
			values = append(values, g.value(c))
		}
	}
	if !counted {
		return ""
	}
	return fmt.Sprintf("INSERT INTO %s (%s)%s SELECT %s FROM generate_series(1, %d) i%s",
		t.quoted, names(columns), overriding, strings.Join(values, ", "), 20+g.IntN(60), t.orNothing())
}

// block fails in the middle, and is caught.
func (g *generator) block(t *table) string {
	first, second := g.update(t, false), g.insert(t)
	if first == "" || strings.Contains(second, "RETURNING") {
		return ""
	}
	return "DO $do$ BEGIN BEGIN " + first + "; " + second + "; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; " +
		"DELETE FROM " + t.quoted + " WHERE " + g.where(t) + "; END $do$"
}

func (g *generator) cursor(t *table) string {
	changed := g.settable(t, false)
	if len(changed) == 0 || t.parted != nil {
		return ""
	}
	return fmt.Sprintf("DECLARE rows CURSOR FOR SELECT * FROM ONLY %s WHERE %s FOR UPDATE; FETCH 1 FROM rows; "+
		"UPDATE ONLY %[1]s SET %[3]s WHERE CURRENT OF rows; CLOSE rows", t.quoted, g.where(t), g.set(changed, ""))
}

// again sends rows once more, in a transaction of its own: under a lock, and as
// they are then, or it could be overtaken by a change of them.
func (g *generator) again() string {
	t := pick(g.Rand, g.tables)
	if t.parent != nil || !t.unique() || t.identity == fullDeferrable {
		return ""
	}
	return fmt.Sprintf("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE; SELECT courier.enqueue_upsert(%s, t) FROM ONLY %[1]s t WHERE %[3]s",
		t.quoted, quote(t.quoted), g.where(t))
}

func (g *generator) truncate(t *table) string {
	named := []string{t.quoted}
	if leaves := t.parted.all(true); leaves != nil && g.one(60) {
		named = []string{pick(g.Rand, leaves)}
	} else if g.one(30) {
		if other := pick(g.Rand, g.tables); other != t {
			named = append(named, other.quoted)
		}
	}
	ending := pick(g.Rand, []string{"", "", " RESTART IDENTITY"})
	referred := slices.ContainsFunc(g.tables, func(t *table) bool { return len(t.references) > 0 })
	if referred || g.one(40) {
		ending += " CASCADE"
	}
	return "TRUNCATE " + strings.Join(named, ", ") + ending
}
