package schemagen

import (
	"fmt"
	"slices"
	"strings"
)

// ddlShare is how often, of 100 times, there is DDL when no transaction is open.
const ddlShare = 30

// migrate are steps with DDL, in a transaction of their own or in one with rows
// before and behind. They are guarded, so that what fails does not take the DDL
// along, and no other session has a transaction that the DDL would wait for.
func (g *generator) migrate(session int) []Step {
	var steps []Step
	do := func(step Step) { steps = append(steps, step) }
	guarded := func(step Step) {
		step.Guarded = true
		do(step)
	}
	if g.one(40) {
		do(g.ddl())
	} else {
		do(Step{SQL: "BEGIN"})
		guarded(g.statement())
		if g.one(25) { // taken back
			do(Step{SQL: "SAVEPOINT d"})
			guarded(Step{Patient: true, SQL: "ALTER TABLE " + pick(g.Rand, g.tables).quoted + " ADD COLUMN " + ident(g.name("never")) + " integer DEFAULT 3"})
			guarded(g.statement())
			do(Step{SQL: "ROLLBACK TO d"})
		}
		for range 1 + g.IntN(2) {
			guarded(g.ddl())
			guarded(g.statement())
		}
		guarded(g.statement())
		do(Step{SQL: "COMMIT"})
	}
	for i := range steps {
		steps[i].Session = session
	}
	return steps
}

// ddl changes a definition, and what the generator knows of it. What a rollback or
// an error takes back it does not know again, so later statements may name what is
// not there.
func (g *generator) ddl() Step {
	for {
		t := pick(g.Rand, g.tables)
		var sql string
		switch g.IntN(15) {
		case 0, 1, 2:
			sql = g.addColumn(t)
		case 3, 4:
			sql = g.dropColumn(t)
		case 5, 6:
			sql = g.alterType(t)
		case 7, 8:
			sql = g.renameColumn(t)
		case 9:
			sql = g.renameTable(t)
		case 10:
			sql = fmt.Sprintf("CREATE INDEX %s ON %s (%s)", ident(g.name("idx")), t.quoted, ident(pick(g.Rand, t.columns).name))
		case 11:
			sql = g.alterColumn(t)
		case 12:
			sql = g.check(t)
		case 13:
			sql = g.createTable()
		case 14:
			sql = g.dropTable(t)
		}
		if sql != "" {
			return Step{SQL: sql, Patient: true}
		}
	}
}

// kin are the tables that share a column by inheritance: those may change by the
// parent only.
func (g *generator) kin(t *table) []*table {
	related := []*table{t}
	for _, other := range g.tables {
		if other.parent == t {
			related = append(related, other)
		}
	}
	return related
}

// free says whether nothing that is defined here depends on the column.
func (g *generator) free(t *table, c *column) bool {
	if c.parent || c == t.touched || c == t.range_ || slices.Contains(t.key, c) || slices.Contains(t.early, c) || slices.Contains(t.late, c) ||
		t.parted.uses(c) || t.partedThere.uses(c) || strings.Contains(t.filter, ident(c.name)) || t.listed != nil {
		return false
	}
	for _, other := range t.columns {
		if strings.Contains(other.generated, ident(c.name)) {
			return false
		}
	}
	return !slices.ContainsFunc(t.references, func(r *reference) bool { return slices.Contains(r.columns, c) })
}

// pickFree is such a column, or none.
func (g *generator) pickFree(t *table) *column {
	for _, c := range shuffled(g.Rand, t.columns) {
		if g.free(t, c) {
			return c
		}
	}
	return nil
}

func (g *generator) addColumn(t *table) string {
	if t.listed != nil {
		return ""
	}
	c := &column{name: g.name("added"), kind: pick(g.Rand, g.kinds)}
	if g.one(50) {
		c.value = c.kind.literal(c.kind.text(g.Rand))
		c.notNull = g.one(40)
	} else if base := pick(g.Rand, t.columns); base.kind.small && base.generated == "" && g.one(50) {
		c.kind = g.kindWhere(func(k *kind) bool { return k.sql == "integer" })
		c.generated = "(7 - " + ident(base.name) + "::integer)"
	}
	for i, relative := range g.kin(t) {
		added := *c
		added.parent = i > 0
		relative.columns = append(relative.columns, &added)
	}
	return "ALTER TABLE " + t.quoted + " ADD COLUMN " + c.definition()
}

func (g *generator) dropColumn(t *table) string {
	c := g.pickFree(t)
	if c == nil || len(t.writable()) < 3 {
		return ""
	}
	for _, relative := range g.kin(t) {
		relative.columns = slices.DeleteFunc(relative.columns, func(other *column) bool { return other.name == c.name })
	}
	return "ALTER TABLE " + t.quoted + " DROP COLUMN " + ident(c.name)
}

// alterType lets the rows be rewritten on each side.
func (g *generator) alterType(t *table) string {
	c := g.pickFree(t)
	for _, other := range t.columns {
		if other.kind.small && other.generated == "" && other.identity == "" && g.free(t, other) {
			c = other
		}
	}
	if c == nil || c.identity != "" || c.generated != "" {
		return ""
	}
	to, using := "text", ""
	switch {
	case c.kind.small && g.one(70):
		to, using = "bigint", " USING 11 - "+ident(c.name)+"::bigint"
	case g.one(50):
		using = " USING 'was ' || " + ident(c.name) + "::text"
	}
	kind := g.kindWhere(func(k *kind) bool { return k.sql == to && (to != "text" || k.key) })
	for _, relative := range g.kin(t) {
		for _, other := range relative.columns {
			if other.name == c.name {
				other.kind, other.value = kind, ""
			}
		}
	}
	return fmt.Sprintf("ALTER TABLE %s ALTER %s DROP DEFAULT, ALTER %[2]s TYPE %[3]s%[4]s", t.quoted, ident(c.name), to, using)
}

// renameColumn is for any column that no expression of the generator names.
func (g *generator) renameColumn(t *table) string {
	c := pick(g.Rand, t.columns)
	if c.parent || c == t.touched || t.touched != nil && slices.Contains(t.key, c) ||
		slices.ContainsFunc(t.columns, func(other *column) bool { return strings.Contains(other.generated, ident(c.name)) }) {
		return ""
	}
	name := g.name("renamed")
	was := c.name
	for _, relative := range g.kin(t) {
		for _, other := range relative.columns {
			if other.name == was {
				other.name = name
			}
		}
	}
	return fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", t.quoted, ident(was), ident(name))
}

func (g *generator) renameTable(t *table) string {
	if t.touched != nil {
		return ""
	}
	was := t.quoted
	t.name = g.name("renamed")
	t.quoted = ident(g.schema.Name) + "." + ident(t.name)
	return fmt.Sprintf("ALTER TABLE %s RENAME TO %s", was, ident(t.name))
}

func (g *generator) alterColumn(t *table) string {
	c := g.pickFree(t)
	if c == nil || c.generated != "" || c.identity != "" {
		return ""
	}
	alter := "ALTER TABLE " + t.quoted + " ALTER " + ident(c.name)
	switch g.IntN(4) {
	case 0:
		return alter + " SET DEFAULT " + c.kind.literal(c.kind.text(g.Rand))
	case 1:
		return alter + " DROP DEFAULT"
	case 2:
		return alter + " SET NOT NULL"
	}
	return alter + " DROP NOT NULL"
}

// check adds a constraint or a comment.
func (g *generator) check(t *table) string {
	c := pick(g.Rand, t.columns)
	if g.one(40) {
		return fmt.Sprintf("COMMENT ON COLUMN %s.%s IS %s", t.quoted, ident(c.name), quote(awkwardText(g.Rand)))
	}
	return fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s::text <> 'no') NOT VALID", t.quoted, ident(g.name("check")), ident(c.name))
}

// createTable makes a table that the set takes by itself, with its rows.
func (g *generator) createTable() string {
	if len(g.tables) > 5 {
		return ""
	}
	t := g.makeTable()
	return strings.Join(append(slices.Clone(t.here), g.insert(t)), "; ")
}

func (g *generator) dropTable(t *table) string {
	if len(g.tables) < 3 || g.one(50) || t.parent == nil && len(g.kin(t)) > 1 {
		return ""
	}
	g.tables = slices.DeleteFunc(g.tables, func(other *table) bool { return other == t })
	for _, other := range g.tables {
		other.references = slices.DeleteFunc(other.references, func(r *reference) bool { return r.to == t })
	}
	return "DROP TABLE " + t.quoted + " CASCADE"
}
