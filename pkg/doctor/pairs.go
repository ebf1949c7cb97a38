package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/render"
)

// pair is a table of a subscription, on both sides.
type pair struct {
	subscription string
	filter       *render.Filter
	rowFiltered  bool // an update may be sent as a delete
	source       *table
	node         *table   // nil: there is none
	key          []string // of the source, none: whole rows, or there is no key
	role         string   // on the node, quoted
	replica      bool     // ordinary triggers of the node do not fire
}

// table is asked of either side. On the node it is seen with the eyes of the
// role that is used there.
type table struct {
	Schema      string     `json:"schema"`
	Name        string     `json:"name"`
	Quoted      string     `json:"quoted"` // schema and name
	QuotedIn    string     `json:"quoted_in"`
	Kind        string     `json:"kind"`        // relkind
	Persistence string     `json:"persistence"` // relpersistence
	Usage       bool       `json:"usage"`       // of the schema
	Lacking     []string   `json:"lacking"`     // privileges
	RowSecurity bool       `json:"row_security"`
	Columns     []column   `json:"columns"`
	Unique      [][]string `json:"unique"` // column sets that ON CONFLICT may name
	Triggers    []trigger  `json:"triggers"`
}

type column struct {
	Name      string `json:"name"`
	Quoted    string `json:"quoted"`
	Type      string `json:"type"`     // with its modifier
	Base      string `json:"base"`     // without
	Category  string `json:"category"` // typcategory
	NotNull   bool   `json:"not_null"`
	Default   bool   `json:"default"`
	Generated bool   `json:"generated"`
	Identity  string `json:"identity"` // attidentity
}

type trigger struct {
	Quoted  string `json:"quoted"`
	Enabled string `json:"enabled"` // tgenabled
	Capture bool   `json:"capture"` // one of ours
}

func (t *table) column(name string) *column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// askTables takes a list of (schema, name).
const askTables = `
SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
    'schema', n.nspname,
    'name', c.relname,
    'quoted', pg_catalog.format('%%I.%%I', n.nspname, c.relname),
    'quoted_in', pg_catalog.quote_ident(n.nspname),
    'kind', c.relkind,
    'persistence', c.relpersistence,
    'usage', pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
    'lacking', (SELECT pg_catalog.jsonb_agg(p.privilege ORDER BY p.place)
                FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'])
                     WITH ORDINALITY p (privilege, place)
                WHERE NOT pg_catalog.has_table_privilege(c.oid, p.privilege)),
    'row_security', pg_catalog.row_security_active(c.oid),
    'columns', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                    'name', a.attname,
                    'quoted', pg_catalog.quote_ident(a.attname),
                    'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                    'base', pg_catalog.format_type(a.atttypid, NULL),
                    'category', t.typcategory,
                    'not_null', a.attnotnull,
                    'default', a.atthasdef AND a.attgenerated = '',
                    'generated', a.attgenerated <> '',
                    'identity', a.attidentity) ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'unique', (SELECT pg_catalog.jsonb_agg(k.names)
               FROM pg_catalog.pg_index i
               CROSS JOIN LATERAL (
                   SELECT pg_catalog.jsonb_agg(a.attname ORDER BY u.place) AS names
                   FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY u (number, place)
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number
                   WHERE u.place <= i.indnkeyatts) k
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indpred IS NULL AND i.indexprs IS NULL),
    'triggers', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                     'quoted', pg_catalog.quote_ident(g.tgname),
                     'enabled', g.tgenabled,
                     'capture', p.proname ~ '^capture_' AND p.pronamespace = pg_catalog.to_regnamespace('courier'))
                     ORDER BY g.tgname)
                 FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
                 WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)) ORDER BY n.nspname, c.relname), '[]')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v') AND (n.nspname, c.relname) IN (VALUES %s)`

// examineTables compares the tables of the subscriptions to this node.
func (e *nodeExamination) examineTables(ctx context.Context) {
	var pairs []*pair
	e.check(ctx, "tables", "the tables can be looked at", func(ctx context.Context) (_ []Finding, err error) {
		pairs, err = e.pairs(ctx)
		return nil, err
	})
	if e.over || len(pairs) == 0 {
		return
	}
	fine := fmt.Sprintf("%d tables, all well", len(pairs))
	for _, c := range tableChecks {
		e.check(ctx, c.name, fine, func(context.Context) ([]Finding, error) {
			seen := make(map[string]bool)
			var findings []Finding
			for _, p := range pairs {
				if p.node == nil && c.name != "table" {
					continue
				}
				for _, f := range c.judge(p) {
					f.Subscription, f.Table = p.subscription, p.source.Quoted
					// of a table of several subscriptions it is told once
					if key := f.Table + " " + f.Message; !seen[key] {
						seen[key] = true
						findings = append(findings, f)
					}
				}
			}
			return findings, nil
		})
	}
}

// pairs reads the tables of both sides.
func (e *nodeExamination) pairs(ctx context.Context) ([]*pair, error) {
	names := make(map[string]bool)
	for i := range e.source.subscriptions {
		if s := &e.source.subscriptions[i]; s.Node == e.of.Name {
			for _, t := range s.tables {
				names["("+literal(t.Schema)+", "+literal(t.Name)+")"] = true
			}
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	list := strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	var here, there []*table
	if err := e.one(ctx, &here, fmt.Sprintf(askTables, list)); err != nil {
		return nil, fmt.Errorf("look at the source's tables: %w", err)
	}
	if err := e.ask(ctx, &there, fmt.Sprintf(askTables, list)); err != nil {
		return nil, fmt.Errorf("look at the node's tables: %w", err)
	}
	keys, err := e.keys(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("look at the source's keys: %w", err)
	}
	find := func(tables []*table, schema, name string) *table {
		i := slices.IndexFunc(tables, func(t *table) bool { return t.Schema == schema && t.Name == name })
		if i < 0 {
			return nil
		}
		return tables[i]
	}
	var pairs []*pair
	for i := range e.source.subscriptions {
		s := &e.source.subscriptions[i]
		if s.Node != e.of.Name {
			continue
		}
		for j := range s.tables {
			t := &s.tables[j]
			if source := find(here, t.Schema, t.Name); source != nil {
				pairs = append(pairs, &pair{subscription: s.Name, filter: &t.Filter, rowFiltered: t.RowFiltered(), source: source,
					node: find(there, t.Schema, t.Name), key: keys[source.Quoted], role: e.Role, replica: e.link.Replica})
			}
		}
	}
	return pairs, nil
}

// keys are the columns by which rows of the source's tables are found; none for
// those that are found by the whole row.
func (e *nodeExamination) keys(ctx context.Context, list string) (map[string][]string, error) {
	keys := make(map[string][]string)
	return keys, e.one(ctx, &keys, `
		SELECT coalesce(pg_catalog.jsonb_object_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), courier.key_columns(c.oid)), '{}')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE (n.nspname, c.relname) IN (VALUES `+list+`)
		  AND (c.relreplident <> 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i
		       WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid))`)
}
