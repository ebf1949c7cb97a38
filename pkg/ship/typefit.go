package ship

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/render"
)

// Values travel as text, and the target's column reads them. Of two different
// types some read each other's text, at least for most values: an integer that is
// too large for the target's is refused when it comes. Others never do; and an
// enum that lacks labels will not, one day. Those are found before anything is
// applied, when a shape meets its table for the first time.

// typeFacts is what counts of a type: a domain is what it is over, an array what
// its elements are.
type typeFacts struct {
	category string // pg_type.typcategory, with an A before it for an array
	name     string // without its schema, which may be another on the node
	labels   []string
}

// typeFactsQuery gives a type's facts as one text; $type stands for its OID.
const typeFactsQuery = `(SELECT CASE WHEN s.typtype = 'b' AND s.typcategory <> 'A' THEN pg_catalog.concat_ws(E'\x01', s.typcategory, s.typname) ELSE (
	WITH RECURSIVE b AS (
	    SELECT y.*, ''::pg_catalog.text AS prefix FROM pg_catalog.pg_type AS y WHERE y.oid = $type
	    UNION ALL
	    SELECT y.*, b.prefix || CASE WHEN b.typtype = 'd' THEN '' ELSE 'A' END
	    FROM b JOIN pg_catalog.pg_type AS y ON y.oid = CASE WHEN b.typtype = 'd' THEN b.typbasetype
	         WHEN b.typcategory = 'A' THEN b.typelem ELSE 0::pg_catalog.oid END)
	SELECT pg_catalog.concat_ws(E'\x01', pg_catalog.concat(b.prefix, b.typcategory), b.typname,
	    (SELECT pg_catalog.string_agg(e.enumlabel::pg_catalog.text, E'\x02' ORDER BY e.enumsortorder)
	     FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = b.oid))
	FROM b WHERE b.typtype <> 'd' AND (b.typcategory <> 'A' OR b.typelem = 0) LIMIT 1) END
	FROM pg_catalog.pg_type AS s WHERE s.oid = $type)`

// typeFactsOf is typeFactsQuery for an expression.
func typeFactsOf(oid string) string { return strings.ReplaceAll(typeFactsQuery, "$type", oid) }

// parseFacts reads what typeFactsQuery gives; a type that is no more has none.
func parseFacts(text []byte) *typeFacts {
	parts := strings.Split(string(text), "\x01")
	if len(parts) < 2 {
		return nil
	}
	f := &typeFacts{category: parts[0], name: parts[1]}
	if len(parts) > 2 {
		f.labels = strings.Split(parts[2], "\x02")
	}
	return f
}

// families are types that read each other's text, as far as values allow.
var families = [][]string{
	{"int2", "int4", "int8", "numeric", "float4", "float8", "oid"},
	{"date", "timestamp", "timestamptz"},
	{"time", "timetz"},
	{"inet", "cidr"},
	{"macaddr", "macaddr8"},
	{"json", "jsonb"},
	{"bit", "varbit"},
}

// fits reports whether a target's type can read the text of a source's.
func (f *typeFacts) fits(target *typeFacts) bool {
	switch {
	case target.category == "S":
		return true
	case f.name == target.name:
		return len(f.category) == len(target.category)
	case len(f.category) != len(target.category):
		return false
	case f.labels != nil && target.labels != nil, strings.HasSuffix(target.category, "S"):
		return true
	}
	return slices.ContainsFunc(families, func(family []string) bool {
		return slices.Contains(family, f.name) && slices.Contains(family, target.name)
	})
}

// missingLabels lists the labels that the target's enum lacks.
func (f *typeFacts) missingLabels(target *typeFacts) []string {
	if target.labels == nil {
		return nil
	}
	var missing []string
	for _, label := range f.labels {
		if !slices.Contains(target.labels, label) {
			missing = append(missing, label)
		}
	}
	return missing
}

// checkTypes makes sure that the target's columns can read what the source's
// write.
func (c lookup) checkTypes(relation *change.Relation, table *render.Table, target *render.Target) error {
	facts, names, err := c.sourceTypes(relation)
	if err != nil {
		return err
	}
	for i := range relation.Columns {
		source := &relation.Columns[i]
		column := table.Column(source.Name)
		if !target.Writes(i) || column == nil {
			continue
		}
		here, there := facts[source.TypeOID], c.remoteTypes[remoteColumn{tableName{table.Schema, table.Name}, column.Name}]
		if here == nil || there == nil {
			continue
		}
		drift := &render.DriftError{Schema: table.Schema, Table: table.Name, Column: source.Name,
			Type: names[typeKey(source)], State: "42804"}
		if !here.fits(there) {
			drift.Reason = fmt.Sprintf("its type is %s on the target and %s on the source", column.Type, drift.Type)
			drift.Fix = fmt.Sprintf("ALTER TABLE %s.%s ALTER COLUMN %s TYPE %s USING %[3]s::%[4]s;",
				identifier(table.Schema), identifier(table.Name), identifier(source.Name), drift.Type)
			return drift
		}
		if missing := here.missingLabels(there); len(missing) > 0 {
			drift.Reason = fmt.Sprintf("enum type %s lacks labels on the target that the source's %s has: %s",
				column.Type, drift.Type, strings.Join(missing, ", "))
			drift.Fix = addLabels(strings.TrimSuffix(column.Type, "[]"), here.labels, missing)
			return drift
		}
	}
	return nil
}

// addLabels is the statements that give an enum type its missing labels, each at
// its place.
func addLabels(typ string, labels, missing []string) string {
	var fix []string
	for i, label := range labels {
		if !slices.Contains(missing, label) {
			continue
		}
		place := ""
		if i > 0 {
			place = " AFTER " + literal(labels[i-1])
		} else if n := slices.IndexFunc(labels, func(l string) bool { return !slices.Contains(missing, l) }); n > 0 {
			place = " BEFORE " + literal(labels[n])
		}
		fix = append(fix, "ALTER TYPE "+typ+" ADD VALUE "+literal(label)+place+";")
	}
	return strings.Join(fix, " ")
}

// typeKey tells a column's type with its modifier.
func typeKey(column *change.Column) string {
	return fmt.Sprintf("%d %d", column.TypeOID, column.TypeMod)
}

// sourceTypes reads what the types of a relation's columns are, and what they are
// called. A type that was dropped since is missing.
func (c lookup) sourceTypes(relation *change.Relation) (map[uint32]*typeFacts, map[string]string, error) {
	facts, names := make(map[uint32]*typeFacts), make(map[string]string)
	var oids, mods []string
	for i := range relation.Columns {
		oids = append(oids, strconv.FormatUint(uint64(relation.Columns[i].TypeOID), 10))
		mods = append(mods, strconv.Itoa(int(relation.Columns[i].TypeMod)))
	}
	rows, err := c.session.Query(c.ctx, `SELECT u.o, u.m, pg_catalog.format_type(u.o, u.m), `+typeFactsOf("u.o")+`
		FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[])) AS u (o, m)`,
		"{"+strings.Join(oids, ",")+"}", "{"+strings.Join(mods, ",")+"}")
	if err != nil {
		return nil, nil, fmt.Errorf("look at the types of table %s: %w", relation, err)
	}
	for i, row := range rows {
		facts[relation.Columns[i].TypeOID] = parseFacts(row[3])
		names[string(row[0])+" "+string(row[1])] = string(row[2])
	}
	return facts, names, nil
}
