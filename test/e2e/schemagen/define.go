package schemagen

import (
	"fmt"
	"slices"
	"strings"
)

// define writes the table's definitions for both sides.
func (g *generator) define(t *table) {
	g.defineHere(t)
	g.defineThere(t)
}

func names(columns []*column) string {
	var quoted []string
	for _, c := range columns {
		quoted = append(quoted, ident(c.name))
	}
	return strings.Join(quoted, ", ")
}

// definition is a column's, as the source has it.
func (c *column) definition() string {
	d := ident(c.name) + " " + c.kind.sql
	switch {
	case c.generated != "":
		d += " GENERATED ALWAYS AS (" + c.generated + ") STORED"
	case c.identity == "serial":
		d = ident(c.name) + " " + map[string]string{"integer": "serial", "bigint": "bigserial"}[c.kind.sql]
	case c.identity != "":
		d += " GENERATED " + c.identity + " AS IDENTITY"
	case c.value != "":
		d += " DEFAULT " + c.value
	}
	if c.notNull {
		d += " NOT NULL"
	}
	return d
}

func (g *generator) defineHere(t *table) {
	var items []string
	var gone []string
	for _, c := range t.columns {
		if g.one(8) && t.parent == nil {
			name := g.name("gone")
			gone = append(gone, name)
			items = append(items, ident(name)+" "+pick(g.Rand, g.kinds).sql)
		}
		if !c.parent {
			items = append(items, c.definition())
		}
	}
	items = append(items, g.constraints(t, func(*column) bool { return true })...)
	create := "CREATE TABLE "
	if t.parted == nil && t.parent == nil && len(t.references) == 0 && !g.schema.DDL && g.one(4) {
		create, t.unlogged = "CREATE UNLOGGED TABLE ", true
	}
	t.here = append(t.here, create+t.quoted+" ("+strings.Join(items, ", ")+")"+g.ending(t, t.parted))
	for _, name := range gone {
		t.here = append(t.here, "ALTER TABLE "+t.quoted+" DROP COLUMN "+ident(name))
	}
	t.here = append(t.here, g.partitions(t, t.parted, t.columns)...)
	t.here = append(t.here, g.replicaIdentity(t)...)
	for _, c := range t.columns {
		if c.kind.plain && g.one(25) {
			t.here = append(t.here, "ALTER TABLE "+t.quoted+" ALTER "+ident(c.name)+" SET STORAGE EXTERNAL")
		}
	}
	t.here = append(t.here, g.touch(t)...)
}

// ending is what follows the columns.
func (g *generator) ending(t *table, p *parting) string {
	switch {
	case p != nil:
		return fmt.Sprintf(" PARTITION BY %s (%s)", p.method, ident(p.column.name))
	case t.parent != nil:
		return " INHERITS (" + t.parent.quoted + ")"
	}
	return ""
}

// constraints are those of columns that a side has.
func (g *generator) constraints(t *table, has func(c *column) bool) []string {
	var items []string
	switch t.identity {
	case byPrimaryKey, fullWithKey:
		items = append(items, "PRIMARY KEY ("+names(t.key)+")")
	case fullDeferrable:
		items = append(items, "PRIMARY KEY ("+names(t.key)+") DEFERRABLE")
	}
	for _, c := range t.early {
		if has(c) {
			items = append(items, "UNIQUE ("+ident(c.name)+")")
		}
	}
	for _, c := range t.late {
		if has(c) {
			items = append(items, "UNIQUE ("+ident(c.name)+") DEFERRABLE"+pick(g.Rand, []string{"", " INITIALLY DEFERRED"}))
		}
	}
	if t.range_ != nil && has(t.range_) {
		item := "EXCLUDE USING gist (" + ident(t.range_.name) + " WITH &&)"
		if t.lateRange {
			item += " DEFERRABLE"
		}
		items = append(items, item)
	}
	for _, r := range t.references {
		items = append(items, fmt.Sprintf("FOREIGN KEY (%s) REFERENCES %s (%s) %s", names(r.columns), r.to.quoted, names(r.to.key), r.action))
	}
	return items
}

// replicaIdentity is what the source is told of it.
func (g *generator) replicaIdentity(t *table) []string {
	switch t.identity {
	case byIndex:
		index := g.name("by")
		return []string{
			fmt.Sprintf("CREATE UNIQUE INDEX %s ON %s (%s)", ident(index), t.quoted, names(t.key)),
			"ALTER TABLE " + t.quoted + " REPLICA IDENTITY USING INDEX " + ident(index),
		}
	case fullWithKey, byWholeRow, fullDeferrable:
		return []string{"ALTER TABLE " + t.quoted + " REPLICA IDENTITY FULL"}
	}
	return nil
}

// touch makes a trigger that updates rows of its table while a statement that
// writes them runs: the same row again, or others, which the statement may have
// written or be about to.
func (g *generator) touch(t *table) []string {
	if t.touched == nil {
		return nil
	}
	function := ident(g.schema.Name) + "." + ident(g.name("touch"))
	var same, texts []string
	for _, c := range t.key {
		same = append(same, "t."+ident(c.name)+" = NEW."+ident(c.name))
		texts = append(texts, "t."+ident(c.name)+"::text")
	}
	which, when, result := strings.Join(same, " AND "), "AFTER UPDATE", "NULL"
	if g.one(50) {
		which = fmt.Sprintf("NOT (%s) AND (hashtext(concat_ws(' ', %s)) & 3) = 1", which, strings.Join(texts, ", "))
		when = pick(g.Rand, []string{"AFTER UPDATE", "AFTER INSERT OR UPDATE", "BEFORE INSERT", "BEFORE INSERT OR UPDATE"})
	}
	if strings.HasPrefix(when, "BEFORE") {
		result = "NEW"
	}
	return []string{
		fmt.Sprintf(`CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $touch$
			BEGIN UPDATE ONLY %s t SET %s = coalesce(t.%[3]s, 0) + 1 WHERE %s; RETURN %s; END $touch$`,
			function, t.quoted, ident(t.touched.name), which, result),
		fmt.Sprintf("CREATE TRIGGER %s %s ON %s FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION %s()",
			pick(g.Rand, []string{"touch", `" touch"`}), when, t.quoted, function), // before the one that captures, or behind
	}
}

// defineThere makes the target's table: another order, wider types, columns of
// its own, without those that are not sent.
func (g *generator) defineThere(t *table) {
	has := func(c *column) bool { return !t.left(c) || c.generated != "" && t.listed == nil }
	inherits := t.parent != nil && (g.schema.DDL || g.one(60))
	var columns []*column
	for _, c := range t.columns {
		if has(c) && !(inherits && c.parent) {
			columns = append(columns, c)
		}
	}
	if g.one(60) {
		columns = shuffled(g.Rand, columns)
	}
	widened := !g.schema.DDL && t.parent == nil && t.partedThere == nil && len(t.references) == 0 && g.one(20)
	var items, gone []string
	for _, c := range columns {
		if g.one(8) {
			name := g.name("gone")
			gone = append(gone, name)
			items = append(items, ident(name)+" integer")
		}
		if g.one(8) {
			items = append(items, ident(g.name("extra"))+pick(g.Rand, []string{
				" integer DEFAULT 7", " text NOT NULL DEFAULT 'x'", " timestamptz NOT NULL DEFAULT now()", " jsonb"}))
		}
		items = append(items, g.definitionThere(t, c, widened))
	}
	referring := *t
	if g.one(30) {
		referring.references = nil
	}
	if !t.unique() {
		referring.identity = byNothing
	} else if t.identity == byIndex {
		referring.identity = byPrimaryKey
	}
	if g.one(30) {
		referring.early, referring.late = nil, nil
	}
	items = append(items, g.constraints(&referring, has)...)
	ending := g.ending(&table{}, t.partedThere)
	if inherits {
		ending = g.ending(t, nil)
	}
	t.there = append(t.there, "CREATE TABLE "+t.quoted+" ("+strings.Join(items, ", ")+")"+ending)
	for _, name := range gone {
		t.there = append(t.there, "ALTER TABLE "+t.quoted+" DROP COLUMN "+ident(name))
	}
	t.there = append(t.there, g.partitions(t, t.partedThere, columns)...)
}

// definitionThere is a column's, as the target has it.
func (g *generator) definitionThere(t *table, c *column, widened bool) string {
	other := *c
	other.value = ""
	if c.identity != "" {
		other.identity = pick(g.Rand, []string{c.identity, c.identity, ""})
	}
	if widened && c.kind.wider != "" && c.generated == "" && other.identity == "" && g.one(50) {
		kind := *c.kind
		kind.sql = kind.wider
		other.kind = &kind
	}
	if c.generated != "" && !g.schema.DDL && t.identity != fullDeferrable && slices.Contains(t.key, c) && g.one(30) {
		other.generated, t.ordinary = "", true // a generated column of the key is sent
	}
	return other.definition()
}
