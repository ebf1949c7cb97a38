package schemagen

import (
	"slices"
	"strings"
)

// column is one that both sides have, or one that is in no list of columns.
type column struct {
	name      string
	kind      *kind
	notNull   bool
	generated string // its expression
	identity  string // ALWAYS, BY DEFAULT, or serial
	value     string // default on the source
	parent    bool   // inherited
}

// identity is what a row is found by.
type identity int

const (
	byPrimaryKey   identity = iota
	byIndex                 // REPLICA IDENTITY USING INDEX
	fullWithKey             // FULL, with a primary key
	byWholeRow              // FULL, without one
	fullDeferrable          // FULL; a deferrable primary key is none
	byNothing
)

var identities = []identity{
	byPrimaryKey, byPrimaryKey, byPrimaryKey, byPrimaryKey, byPrimaryKey, byIndex, byIndex,
	fullWithKey, byWholeRow, byWholeRow, fullDeferrable, byNothing,
}

// table is one that is replicated, with its definitions.
type table struct {
	name, quoted string // quoted: with its namespace
	columns      []*column
	key          []*column // of the source, unique or not
	identity     identity
	late         []*column // each has a unique constraint that is deferrable
	early        []*column // each has one that is not
	range_       *column   // of an exclusion constraint
	lateRange    bool
	references   []*reference
	parent       *table // it inherits from
	unlogged     bool
	parted       *parting // on the source
	partedThere  *parting
	filter       string
	ordinary     bool      // a generated column of the key is none there, which heirs must not get
	listed       []*column // nil: all
	touched      *column   // what a trigger of the source counts up

	here, there []string
}

// reference is a foreign key.
type reference struct {
	columns []*column
	to      *table
	action  string
}

func (t *table) unique() bool { return t.identity != byWholeRow && t.identity != byNothing }

// left are the columns that are in no list.
func (t *table) left(c *column) bool { return t.listed != nil && !slices.Contains(t.listed, c) }

// makeTable makes a random table, and adds it to those of the schema.
func (g *generator) makeTable() *table {
	t := &table{name: g.name("t"), identity: pick(g.Rand, identities)}
	t.quoted = ident(g.schema.Name) + "." + ident(t.name)
	if candidates := g.parents(); len(candidates) > 0 && g.one(15) {
		t.parent = pick(g.Rand, candidates)
		for _, c := range t.parent.columns {
			inherited := *c
			inherited.parent, inherited.identity = true, ""
			t.columns = append(t.columns, &inherited)
		}
	}
	if t.parent != nil && t.identity == byNothing {
		t.identity = byPrimaryKey // what is done to the parent is done to its rows, too
	}
	g.makeColumns(t)
	g.makeKey(t)
	if t.parent == nil {
		if g.one(25) {
			t.parted = g.makeParting(t)
		}
		if g.one(20) {
			t.partedThere = g.makeParting(t)
		}
		if t.parted != nil && g.one(30) || g.schema.DDL { // which may be of partitions
			t.partedThere = t.parted
		}
	}
	if t.parted == nil && t.partedThere == nil {
		g.makeConstraints(t)
		g.makeIdentity(t)
	}
	g.makeReference(t)
	g.makeLimits(t)
	g.define(t)
	g.tables = append(g.tables, t)
	return t
}

// parents are tables that another may inherit from.
func (g *generator) parents() []*table {
	var candidates []*table
	for _, t := range g.tables {
		if t.parted == nil && t.partedThere == nil && t.parent == nil && t.listed == nil && !t.ordinary {
			candidates = append(candidates, t)
		}
	}
	return candidates
}

func (g *generator) makeColumns(t *table) {
	for range 1 + g.IntN(7) {
		t.columns = append(t.columns, &column{name: g.name("c"), kind: pick(g.Rand, g.kinds)})
	}
	for _, c := range t.columns {
		if c.parent || c.value != "" {
			continue
		}
		if g.one(15) {
			c.value = c.kind.literal(c.kind.text(g.Rand))
		} else if c.kind.sql == "timestamptz" && g.one(50) {
			c.value = "clock_timestamp()"
		} else if c.kind.sql == "double precision" && g.one(50) {
			c.value = "random()"
		}
	}
	if g.one(25) {
		g.makeGenerated(t)
	}
}

// makeGenerated adds a stored generated column.
func (g *generator) makeGenerated(t *table) {
	for _, base := range shuffled(g.Rand, t.columns) {
		c := &column{name: g.name("g")}
		switch {
		case base.generated != "":
			continue
		case base.kind.small:
			c.kind = g.kindWhere(func(k *kind) bool { return k.sql == "integer" })
			c.generated = strings.ReplaceAll("(100 - 2 * $::integer)", "$", ident(base.name))
		case base.kind.plain && base.kind.key:
			c.kind = g.kindWhere(func(k *kind) bool { return k.sql == "text" && k.key })
			c.generated = strings.ReplaceAll(pick(g.Rand, []string{"upper($)", "(coalesce($, '') || 'g')", "md5($)"}), "$", ident(base.name))
		default:
			continue
		}
		t.columns = append(t.columns, c)
		return
	}
}

// makeKey gives the table columns that a row is found by.
func (g *generator) makeKey(t *table) {
	if t.identity == byWholeRow || t.identity == byNothing {
		return
	}
	n := 1
	if g.one(35) {
		n += 1 + g.IntN(2)
	}
	for _, c := range t.columns {
		if c.generated != "" && !c.parent && len(t.key) < n && g.one(40) {
			t.key = append(t.key, c)
		}
	}
	for len(t.key) < n {
		k := g.kindWhere(func(k *kind) bool { return k.key })
		if g.one(50) {
			k = g.kindWhere(func(k *kind) bool { return k.small })
		}
		c := &column{name: g.name("k"), kind: k}
		t.key = append(t.key, c)
		t.columns = append(t.columns, c)
	}
	for _, c := range t.key {
		c.notNull = true
	}
	t.key = shuffled(g.Rand, t.key)
	if t.parent == nil { // else those of the parent come first
		t.columns = shuffled(g.Rand, t.columns)
	}
}

// makeConstraints adds some that are not keys.
func (g *generator) makeConstraints(t *table) {
	for _, c := range t.columns {
		if !c.kind.key || !c.kind.hash || c.parent || slices.Contains(t.key, c) || !g.one(12) {
			continue
		}
		if g.one(50) {
			t.late = append(t.late, c)
		} else {
			t.early = append(t.early, c)
		}
	}
	if g.one(6) {
		t.range_ = &column{name: g.name("r"), kind: g.kindWhere(func(k *kind) bool { return k.sql == "int4range" })}
		t.lateRange = g.one(50)
		t.columns = append(t.columns, t.range_)
	}
	if t.identity == byPrimaryKey && g.one(8) {
		t.touched = &column{name: g.name("touched"), kind: g.kindWhere(func(k *kind) bool { return k.sql == "integer" })}
		t.columns = append(t.columns, t.touched)
	}
}

// makeIdentity makes an integer column one that a sequence fills.
func (g *generator) makeIdentity(t *table) {
	if !g.one(25) || t.parent != nil {
		return
	}
	for _, c := range t.columns {
		if (c.kind.sql == "integer" || c.kind.sql == "bigint") && c.generated == "" && c != t.touched {
			c.identity, c.value, c.notNull = pick(g.Rand, []string{"ALWAYS", "BY DEFAULT", "serial"}), "", true
			return
		}
	}
}

// makeReference adds a foreign key to a table, perhaps to itself.
func (g *generator) makeReference(t *table) {
	if t.identity == byNothing || t.parent != nil || !g.one(30) {
		return
	}
	var candidates []*table
	for _, to := range append(slices.Clone(g.tables), t) {
		if (to.identity == byPrimaryKey || to.identity == fullWithKey) && !to.unlogged && (!g.schema.Plain || to.filter == "") {
			candidates = append(candidates, to)
		}
	}
	if len(candidates) == 0 {
		return
	}
	r := &reference{to: pick(g.Rand, candidates), action: pick(g.Rand, []string{
		"ON UPDATE CASCADE ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE CASCADE", "ON UPDATE CASCADE",
		"DEFERRABLE INITIALLY DEFERRED", "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED", ""})}
	for _, k := range r.to.key {
		c := &column{name: g.name("f"), kind: k.kind}
		r.columns = append(r.columns, c)
		t.columns = append(t.columns, c)
	}
	t.references = append(t.references, r)
}

// makeLimits gives the table a row filter, or a list of columns. A table that
// a foreign key of a plain role's node refers to has all its rows there.
func (g *generator) makeLimits(t *table) {
	self := slices.ContainsFunc(t.references, func(r *reference) bool { return r.to == t })
	if g.one(25) && !(g.schema.Plain && self) && !g.migrating() {
		t.filter = g.filterOf(t)
	}
	if !g.one(20) || g.schema.DDL || t.identity == byWholeRow || t.identity == fullDeferrable || t.parent != nil {
		return
	}
	for _, c := range t.columns {
		needed := slices.Contains(t.key, c) || t.partedThere.uses(c) ||
			slices.ContainsFunc(t.references, func(r *reference) bool { return slices.Contains(r.columns, c) })
		if c.generated == "" && (needed || g.one(60)) {
			t.listed = append(t.listed, c)
		} else if c.generated != "" && needed {
			t.listed = nil // a list can't have it, and has to
			return
		}
	}
	if len(t.listed) == 0 {
		t.listed = nil
	}
}
