package schemagen

import (
	"fmt"
	"slices"
)

// parting is how a table is divided on one side.
type parting struct {
	method string // RANGE, LIST, HASH
	column *column
	leaves []leaf
}

type leaf struct {
	name   string // quoted, with its namespace
	bounds string
	parts  *parting // divided itself
}

// makeParting divides a table by a column of its key, or by any if it has none.
func (g *generator) makeParting(t *table) *parting {
	var candidates []*column
	columns := t.key
	if !t.unique() {
		columns = t.columns
	}
	for _, c := range columns {
		if c.generated == "" && (c.kind.small || c.kind.hash) && !(c.kind.plain && !c.kind.key) {
			candidates = append(candidates, c)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return g.partingBy(pick(g.Rand, candidates), candidates)
}

func (g *generator) partingBy(c *column, others []*column) *parting {
	p := &parting{column: c, method: "HASH"}
	var bounds []string
	if c.kind.small && g.one(75) {
		p.method = pick(g.Rand, []string{"RANGE", "LIST"})
	}
	switch p.method {
	case "RANGE":
		bounds = []string{"FROM (MINVALUE) TO (4)", "FROM (4) TO (8)", "FROM (8) TO (MAXVALUE)"}
	case "LIST":
		bounds = []string{"IN (0, 1, 2, 3)", "IN (4, 5, 6, 11)", "IN (7, 8)"}
	case "HASH":
		bounds = []string{"WITH (MODULUS 3, REMAINDER 0)", "WITH (MODULUS 3, REMAINDER 1)", "WITH (MODULUS 3, REMAINDER 2)"}
	}
	for _, b := range bounds {
		p.leaves = append(p.leaves, leaf{name: g.leafName(), bounds: "FOR VALUES " + b})
	}
	if p.method != "HASH" { // of NULL also
		p.leaves = append(p.leaves, leaf{name: g.leafName(), bounds: "DEFAULT"})
	}
	if others != nil && g.one(25) {
		p.leaves[1].parts = g.partingBy(pick(g.Rand, others), nil)
	}
	return p
}

func (g *generator) leafName() string { return ident(g.schema.Name) + "." + ident(g.name("part")) }

// partitions are the statements that make them; some are attached, with their
// columns in another order.
func (g *generator) partitions(t *table, p *parting, columns []*column) []string {
	if p == nil {
		return nil
	}
	return g.partitionsOf(t, t.quoted, p, columns)
}

// mostDefault bounds the default of a column that is added to a table: the catalog keeps
// its value in a row that must fit a page.
const mostDefault = 4000

func (g *generator) partitionsOf(t *table, parent string, p *parting, columns []*column) []string {
	var ddl []string
	for _, l := range p.leaves {
		switch {
		case l.parts != nil:
			ddl = append(ddl, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s PARTITION BY %s (%s)",
				l.name, parent, l.bounds, l.parts.method, ident(l.parts.column.name)))
			ddl = append(ddl, g.partitionsOf(t, l.name, l.parts, columns)...)
		case g.one(25) && !g.migrating() && !slices.ContainsFunc(columns, func(c *column) bool { return c.generated != "" }):
			ddl = append(ddl, fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", l.name, parent))
			if c := pick(g.Rand, columns); !slices.Contains(t.key, c) && !t.parted.uses(c) && !t.partedThere.uses(c) && len(t.references) == 0 &&
				len(c.value) < mostDefault {
				ddl = append(ddl, "ALTER TABLE "+l.name+" DROP COLUMN "+ident(c.name), "ALTER TABLE "+l.name+" ADD COLUMN "+c.definition())
			}
			ddl = append(ddl, fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s %s", parent, l.name, l.bounds))
		default:
			ddl = append(ddl, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", l.name, parent, l.bounds))
		}
	}
	return ddl
}

// uses says whether rows are divided by the column.
func (p *parting) uses(c *column) bool {
	if p == nil {
		return false
	}
	return p.column == c || slices.ContainsFunc(p.leaves, func(l leaf) bool { return l.parts.uses(c) })
}

// all are the leaves, also those of leaves; truncatable: without those whose rows
// only a hash tells.
func (p *parting) all(truncatable bool) []string {
	if p == nil || truncatable && p.method == "HASH" {
		return nil
	}
	var leaves []string
	for _, l := range p.leaves {
		leaves = append(leaves, l.name)
		if l.parts != nil {
			leaves = append(leaves, l.parts.all(truncatable)...)
		}
	}
	return leaves
}
