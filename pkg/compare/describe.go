package compare

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// table is a table on both sides, and what has been found out about it.
type table struct {
	*ship.Table
	answer      Table
	here, there *relation
	keys        []string // names of the key's columns
	types       []string // in which bounds of ranges are compared, one a key column
	casts       []string // in which a key is looked up, where it is not that of the column; "" where it is
	collations  []string // " COLLATE …" or "", with which they are
	variable    bool     // some of the types have values of any length
	unindexed   bool     // ranges are not what an index of the table is ordered by
	keyless     bool     // the hash of a row stands for its key

	bounds     [][]string // of the ranges of the scan
	progress   func(step string, part float64, finished bool)
	candidates map[string][]string // keys of rows that seemed to differ
	converted  []string            // columns whose type is another on the node, for messages
	unsent     map[Kind]bool       // differences that are none, since what would mend them is not sent
	resend     [][]string          // keys of rows to ship again
	replace    [][]string          // and of those to delete before
}

// relation is the table on one side.
type relation struct {
	place    place
	name     string // quoted
	only     string // "ONLY ", or ""
	where    string // condition on its rows
	row      string // SQL of a row's text
	columns  []attribute
	physical bool // its rows have a place and a version
}

// attribute is a column of the table on one side.
type attribute struct {
	name      string
	full      string // type with its modifier
	typ       string // and without
	base      string // what a domain is over
	category  string
	class     string // fixed, variable, or "": has no order that is the same in any search_path
	generated bool
	builtin   bool   // its type is
	collation string // identity of its collation, with its version; "" if it has none
	collate   string // clause that names it
	equal     string // operator
}

// askColumns takes schema and name. A row is a column; a table that is there has
// one at least.
const askColumns = `SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.format_type(a.atttypid, -1),
	pg_catalog.format_type(b.oid, -1), b.typcategory,
	CASE WHEN b.typtype = 'e' THEN 'fixed'
	     WHEN b.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace THEN ''
	     WHEN b.typname IN ('int2', 'int4', 'int8', 'oid', 'xid8', 'pg_lsn', 'uuid', 'date', 'time', 'timestamp', 'timestamptz',
	                        'float4', 'float8', 'bool', 'char', 'interval', 'macaddr', 'macaddr8', 'money', 'name') THEN 'fixed'
	     WHEN b.typname IN ('text', 'varchar', 'bpchar', 'numeric', 'bytea', 'inet', 'cidr', 'bit', 'varbit') THEN 'variable'
	     ELSE '' END,
	a.attgenerated <> '', t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace,
	CASE WHEN a.attcollation = 0 THEN NULL
	     WHEN a.attcollation = 100 THEN (SELECT pg_catalog.concat_ws(' ', 'default', pg_catalog.to_jsonb(d) ->> 'datlocprovider', d.datcollate,
	              pg_catalog.to_jsonb(d) ->> 'daticulocale', pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticurules',
	              coalesce((SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(co.oid)) FROM pg_catalog.pg_collation co
	                        WHERE co.collprovider = 'c' AND co.collcollate = d.datcollate), pg_catalog.to_jsonb(d) ->> 'datcollversion'))
	          FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
	     ELSE (SELECT CASE WHEN co.collisdeterministic THEN '' ELSE 'other ' END || pg_catalog.concat_ws(' ', cn.nspname, co.collname, co.collprovider,
	              co.collcollate, pg_catalog.to_jsonb(co) ->> 'colliculocale', pg_catalog.to_jsonb(co) ->> 'colllocale', pg_catalog.to_jsonb(co) ->> 'collicurules',
	              pg_catalog.pg_collation_actual_version(co.oid))
	           FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
	CASE WHEN a.attcollation IN (0, 100) THEN '' ELSE (SELECT pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname)
	     FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
	coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, o.oprname)
	          FROM pg_catalog.pg_opclass oc
	          JOIN pg_catalog.pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree'
	          JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
	               AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
	          JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr
	          JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace AND opn.nspname <> 'pg_catalog'
	          WHERE oc.opcdefault AND oc.opcintype = b.oid LIMIT 1), '='),
	c.relkind, pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_table_privilege(c.oid, 'SELECT'),
	pg_catalog.row_security_active(c.oid), pg_catalog.quote_ident(current_user::pg_catalog.text), pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
CROSS JOIN LATERAL (
	WITH RECURSIVE base AS (
		SELECT t.oid, t.typbasetype
		UNION ALL
		SELECT u.oid, u.typbasetype FROM base JOIN pg_catalog.pg_type u ON u.oid = base.typbasetype)
	SELECT u.* FROM base JOIN pg_catalog.pg_type u ON u.oid = base.oid WHERE base.typbasetype = 0) AS b
WHERE c.relkind IN ('r', 'p', 'f', 'v') AND n.nspname = `

const askedColumns = 17

// examine asks one side for a table; nil if it has none.
func (c *comparison) examine(ctx context.Context, p place, t *ship.Table, where string) (*relation, error) {
	s := p.statement()
	s.WriteString(askColumns)
	s.WriteString(s.value(t.Schema, "pg_catalog.text") + " AND c.relname = ")
	s.WriteString(s.value(t.Name, "pg_catalog.text") + " ORDER BY a.attnum")
	rows, err := ask(ctx, p, s, askedColumns)
	if err != nil {
		return nil, fmt.Errorf("look at table %s.%s: %w", t.Schema, t.Name, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	first := rows[0]
	role, name := string(first[15]), string(first[16])
	run := "Run there: "
	if where == "" {
		run = "Run here: "
	}
	refuse := func(state, message, hint string) error {
		return &session.Error{SQLState: state, Message: message + where, Hint: hint + "."}
	}
	switch {
	case string(first[12]) != "t":
		return nil, refuse("42501", fmt.Sprintf("role %s may not use the schema of table %s", role, name),
			fmt.Sprintf("%sGRANT USAGE ON SCHEMA %s TO %s", run, identifier(t.Schema), role))
	case string(first[13]) != "t":
		return nil, refuse("42501", fmt.Sprintf("role %s may not read table %s", role, name),
			fmt.Sprintf("%sGRANT SELECT ON %s TO %s", run, name, role))
	case string(first[14]) == "t":
		return nil, refuse("42501", fmt.Sprintf("row-level security of table %s applies to role %s", name, role),
			fmt.Sprintf("Of rows that it hides nothing can be said. Exempt the role there: ALTER ROLE %s BYPASSRLS", role))
	}
	r := &relation{place: p, name: name}
	switch string(first[11]) {
	case "r":
		r.only, r.physical = "ONLY ", true
	case "p":
		r.physical = true
	}
	for _, row := range rows {
		r.columns = append(r.columns, attribute{name: string(row[0]), full: string(row[1]), typ: string(row[2]), base: string(row[3]),
			category: string(row[4]), class: string(row[5]), generated: string(row[6]) == "t", builtin: string(row[7]) == "t",
			collation: string(row[8]), collate: string(row[9]), equal: string(row[10])})
	}
	return r, nil
}

func (r *relation) column(name string) *attribute {
	i := slices.IndexFunc(r.columns, func(a attribute) bool { return a.name == name })
	if i < 0 {
		return nil
	}
	return &r.columns[i]
}

// describe matches a table with that of the node.
func (c *comparison) describe(ctx context.Context, of *ship.Table) (*table, error) {
	t := &table{Table: of, candidates: make(map[string][]string), unsent: make(map[Kind]bool)}
	var err error
	if t.here, err = c.examine(ctx, c.source, of, ""); err != nil {
		return nil, err
	}
	if t.here == nil {
		return nil, &session.Error{SQLState: "42P01", Message: fmt.Sprintf("table %s.%s does not exist any more", of.Schema, of.Name),
			Hint: "Run it again."}
	}
	onNode := " on node " + c.sub.Node
	if t.there, err = c.examine(ctx, c.target, of, onNode); err != nil {
		return nil, err
	}
	t.answer.OID, t.answer.Name = of.OID, t.here.name
	if t.there == nil {
		return nil, &session.Error{SQLState: "42P01", Message: fmt.Sprintf("table %s does not exist%s", t.here.name, onNode),
			Hint: "Create it there, or name the tables to compare."}
	}
	if err = c.findKey(ctx, t); err != nil {
		return nil, err
	}
	if t.keyless && c.Repair != Nothing && c.Tables != nil {
		return nil, &session.Error{SQLState: "55000",
			Message: fmt.Sprintf("rows of table %s can't be shipped again, because it has no key", t.here.name),
			Hint:    "Add a primary key to the table; or " + c.copyOnceMore(t) + "."}
	}
	if err = c.readFilter(ctx, t); err != nil {
		return nil, err
	}
	t.unsent[Missing], t.unsent[Different], t.unsent[Extra] = !of.Filter.Insert, !of.Filter.Update, !of.Filter.Delete
	if err = c.matchColumns(t); err != nil {
		return nil, err
	}
	t.matchKeys()
	return t, nil
}

// copyOnceMore is the remedy for a table without a key.
func (c *comparison) copyOnceMore(t *table) string {
	return fmt.Sprintf("copy all of it once more: SELECT courier.alter_subscription_resynchronize_table(%s, %s)",
		literal(c.Subscription), literal(t.here.name))
}

// findKey asks by which columns the rows are found.
func (c *comparison) findKey(ctx context.Context, t *table) error {
	text, found, err := session.Value(ctx, c.Session, `SELECT pg_catalog.array_to_string(courier.key_columns(c.oid), E'\x01')
		FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid
		AND (c.relreplident <> 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i
		     WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid))`, strconv.FormatUint(uint64(t.OID), 10))
	if err != nil {
		return fmt.Errorf("look for the key of table %s: %w", t.answer.Name, err)
	}
	t.keyless = !found
	if found {
		t.keys = strings.Split(text, "\x01")
	}
	return nil
}

// readFilter reads which rows of the source the node is to have.
func (c *comparison) readFilter(ctx context.Context, t *table) error {
	condition, _, err := session.Value(ctx, c.Session, "SELECT courier.copy_condition($1::pg_catalog.int4, $2::pg_catalog.oid)",
		strconv.Itoa(c.sub.ID), strconv.FormatUint(uint64(t.OID), 10))
	if err != nil {
		return fmt.Errorf("read the row filters of table %s: %w", t.answer.Name, err)
	}
	t.here.where = condition
	return nil
}

// matchColumns says which columns are compared: those that are sent and that the
// node does not compute itself. They are taken in the order of their names.
func (c *comparison) matchColumns(t *table) error {
	var names []string
	for i := range t.here.columns {
		column := &t.here.columns[i]
		key := slices.Contains(t.keys, column.name)
		if !key && (column.generated || t.Filter.Columns != nil && !t.Filter.Columns[column.name]) {
			continue
		}
		other := t.there.column(column.name)
		if other == nil {
			return &session.Error{SQLState: "42703",
				Message: fmt.Sprintf("column %s of table %s does not exist on node %s", identifier(column.name), t.there.name, c.sub.Node),
				Hint:    fmt.Sprintf("Run there: ALTER TABLE %s ADD COLUMN %s %s.", t.there.name, identifier(column.name), column.full)}
		}
		if key || !other.generated {
			names = append(names, column.name)
		}
	}
	if len(names) == 0 {
		return &session.Error{SQLState: "42703",
			Message: fmt.Sprintf("table %s has no column that is sent to node %s", t.here.name, c.sub.Node),
			Hint:    "Name the other tables."}
	}
	slices.Sort(names)
	var here, there []string
	for _, name := range names {
		mine, other := t.here.column(name), t.there.column(name)
		value := identifier(name)
		shortened := c.shortened(mine, other)
		there = append(there, fmt.Sprintf(shortened, value))
		if mine.full != other.full && other.builtin && (mine.base != "bytea" || other.base != "bytea") {
			// what the node makes of the text that it is sent
			value = fmt.Sprintf("CASE WHEN %s IS NOT NULL THEN pg_catalog.concat(%[1]s)::%s END", value, other.full)
			t.converted = append(t.converted, fmt.Sprintf("%s is %s here and %s there", identifier(name), mine.full, other.full))
		}
		here = append(here, fmt.Sprintf(shortened, value))
	}
	t.here.row = "ROW(" + strings.Join(here, ", ") + ")::pg_catalog.text"
	t.there.row = "ROW(" + strings.Join(there, ", ") + ")::pg_catalog.text"
	return nil
}

// longestValue is the length of a text, in bytes, beyond which it is compared by its MD5:
// the text of a row is several times in memory.
const longestValue = 64 << 10

// shortened gives the form of what a value is compared by, which has to be the same on
// both sides: itself, or its MD5 if it may be very long.
func (c *comparison) shortened(mine, other *attribute) string {
	base := other.base // of the source's values too, when they are converted
	switch {
	case base == "bytea" && mine.base == "bytea":
		return "pg_catalog.md5(%s)"
	case c.hash.portable: // the same value is of another length there
	case mine.full != other.full && !other.builtin, mine.full == other.full && mine.base != other.base: // of domains
	case base == "text" || base == "character varying":
		return fmt.Sprintf("CASE WHEN pg_catalog.octet_length(%%[1]s) > %d THEN pg_catalog.md5(%%[1]s) ELSE %%[1]s END", longestValue)
	case base == "json" || base == "jsonb" || base == "xml" || other.category == "A" || other.category == "C":
		return "pg_catalog.md5(%s::pg_catalog.text)"
	}
	return "%s"
}

// matchKeys says how keys are compared to find their range. Both sides must do it
// in the same way, and it should be the order of the indexes.
func (t *table) matchKeys() {
	if t.keyless {
		t.types, t.collations, t.unindexed = []string{"pg_catalog.int8"}, []string{""}, true
		return
	}
	t.casts = make([]string, len(t.keys))
	for i, name := range t.keys {
		mine, other := t.here.column(name), t.there.column(name)
		typ := commonType(mine, other)
		if typ == "" {
			t.asText()
			return
		}
		if mine.base != other.base {
			t.casts[i] = typ
		}
		collate := mine.collate
		if mine.collation != other.collation || strings.HasPrefix(mine.collation, "other ") {
			collate, t.unindexed = ` COLLATE "C"`, true
		}
		t.types, t.collations = append(t.types, typ), append(t.collations, collate)
		t.variable = t.variable || mine.class == "variable" || other.class == "variable"
	}
	t.variable = t.variable || len(t.keys) > 1
}

// commonType is a type in which the values of both columns can be compared, with
// the help of an index on either; "" if there is none.
func commonType(a, b *attribute) string {
	among := func(types ...string) bool { return slices.Contains(types, a.base) && slices.Contains(types, b.base) }
	switch {
	case a.class == "" || b.class == "":
		return ""
	case among("text", "character varying"):
		return "text"
	case a.base == b.base:
		return a.base
	case among("smallint", "integer", "bigint"):
		return "bigint"
	case among("smallint", "integer", "bigint", "numeric"):
		return "numeric"
	case among("date", "timestamp without time zone", "timestamp with time zone"):
		return "timestamp with time zone"
	}
	return ""
}

// asText lets keys be compared by their text.
func (t *table) asText() {
	t.types, t.collations, t.unindexed, t.variable = nil, nil, true, true
	for i, name := range t.keys {
		t.casts[i] = ""
		if t.here.column(name).base != t.there.column(name).base {
			t.casts[i] = "pg_catalog.text"
		}
		t.types, t.collations = append(t.types, "pg_catalog.text"), append(t.collations, ` COLLATE "C"`)
	}
}
