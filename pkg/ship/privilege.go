package ship

import (
	"context"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// askPrivileges asks a node what the role lacks to write to a table, and which
// policies of the table apply to it: the words of the error, "permission denied
// for table", name neither. What is granted by columns is told by columns. It
// takes schema and name as literals, and as lists of them the privileges that the
// subscription needs and those that the refused statement does.
const askPrivileges = `SELECT pg_catalog.quote_ident(current_user::pg_catalog.text),
	pg_catalog.format('%%I.%%I', n.nspname, c.relname),
	CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN pg_catalog.quote_ident(n.nspname) END,
	(SELECT pg_catalog.string_agg(p.name || CASE
	        WHEN columns.granted > 0 THEN ' (' || columns.lacking || ')' ELSE '' END, ', ' ORDER BY p.place)
	 FROM pg_catalog.unnest(ARRAY[%[3]s]::pg_catalog.text[]) WITH ORDINALITY p (name, place)
	 CROSS JOIN LATERAL (
	     SELECT pg_catalog.count(*) FILTER (WHERE g.granted) AS granted,
	            pg_catalog.string_agg(pg_catalog.quote_ident(g.name), ', ' ORDER BY g.number) FILTER (WHERE NOT g.granted) AS lacking
	     FROM (SELECT a.attname::pg_catalog.text AS name, a.attnum AS number,
	                  p.name IN ('SELECT', 'INSERT', 'UPDATE') AND pg_catalog.has_column_privilege(c.oid, a.attnum,
	                      CASE WHEN p.name IN ('SELECT', 'INSERT', 'UPDATE') THEN p.name ELSE 'SELECT' END) AS granted
	           FROM pg_catalog.pg_attribute a
	           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	             AND (a.attgenerated = '' OR p.name = 'SELECT')) AS g) AS columns
	 WHERE NOT pg_catalog.has_table_privilege(c.oid, p.name) AND columns.lacking IS NOT NULL),
	(SELECT pg_catalog.bool_or(NOT pg_catalog.has_table_privilege(c.oid, p.name) AND NOT (
	        p.name IN ('SELECT', 'INSERT', 'UPDATE') AND NOT EXISTS (
	            SELECT FROM pg_catalog.pg_attribute a
	            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR p.name = 'SELECT')
	              AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, CASE p.name WHEN 'DELETE' THEN 'SELECT' WHEN 'TRUNCATE' THEN 'SELECT' ELSE p.name END))))
	 FROM pg_catalog.unnest(ARRAY[%[4]s]::pg_catalog.text[]) p (name)),
	pg_catalog.row_security_active(c.oid),
	(SELECT pg_catalog.string_agg(pg_catalog.format('%%I (%%s)', y.polname, pg_catalog.concat_ws(', ',
	        CASE y.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
	        CASE WHEN NOT y.polpermissive THEN 'restrictive' END)), ', ' ORDER BY y.polname)
	 FROM pg_catalog.pg_policy y WHERE y.polrelid = c.oid
	   AND (y.polroles = '{0}' OR EXISTS (SELECT FROM pg_catalog.unnest(y.polroles) r WHERE pg_catalog.pg_has_role(r, 'USAGE'))))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %[1]s AND c.relname = %[2]s`

// neededPrivileges lists what a table's changes take.
func neededPrivileges(filter *render.Filter) []string {
	needed := []string{"SELECT"} // keys are compared
	for _, each := range []struct {
		name  string
		needs bool
	}{
		{"INSERT", filter.Allows(change.Insert) || filter.Allows(change.Update)},
		{"UPDATE", filter.Allows(change.Update)},
		{"DELETE", filter.Allows(change.Delete)},
		{"TRUNCATE", filter.Allows(change.Truncate)},
	} {
		if each.needs {
			needed = append(needed, each.name)
		}
	}
	return needed
}

// refusedPrivileges lists what a statement takes. An insert may have to give way
// to an update, and an update to an insert, by on_conflict.
func refusedPrivileges(op string) []string {
	switch op {
	case change.Delete.String():
		return []string{"SELECT", "DELETE"}
	case change.Truncate.String():
		return []string{"TRUNCATE"}
	case "copy":
		return []string{"SELECT", "INSERT"}
	}
	return []string{"SELECT", "INSERT", "UPDATE"}
}

// literals makes a list of literals.
func literals(texts []string) string {
	quoted := make([]string, len(texts))
	for i := range texts {
		quoted[i] = literal(texts[i])
	}
	return strings.Join(quoted, ", ")
}

// explainRefusal replaces a stop's advice by the grant or the policy that is
// missing, if the node's answer is about those. The link's transaction is over.
// Whatever goes wrong leaves the advice as it is.
func (s *Shipper) explainRefusal(ctx context.Context, stop *StopError) *StopError {
	state := session.SQLState(stop.Err)
	if state != "42501" && state != dblink.StateMissing || stop.Table == "" || s.link == nil || s.link.Busy() {
		return stop
	}
	filter := &render.Filter{Insert: true, Update: true, Delete: true}
	for _, table := range s.catalog.tables {
		if table.Schema == stop.Schema && table.Name == stop.Name {
			filter = &table.Filter
		}
	}
	if err := s.link.Exec(ctx, "ROLLBACK"); err != nil {
		return stop
	}
	refusing := stop.refused
	if refusing == nil {
		refusing = refusedPrivileges(stop.Op)
	}
	rows, err := s.link.Query(ctx, fmt.Sprintf(askPrivileges, literal(stop.Schema), literal(stop.Name),
		literals(neededPrivileges(filter)), literals(refusing)), 7)
	if err != nil || len(rows) != 1 {
		return stop
	}
	role, table, schema, lacking := string(rows[0][0]), string(rows[0][1]), string(rows[0][2]), string(rows[0][3])
	refused, secured, policies := schema != "" || string(rows[0][4]) == "t", string(rows[0][5]) == "t", string(rows[0][6])
	var grants []string
	if schema != "" {
		grants = append(grants, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", schema, role))
	}
	if lacking != "" {
		grants = append(grants, fmt.Sprintf("GRANT %s ON %s TO %s;", lacking, table, role))
	}
	switch {
	case state == "42501" && refused:
		stop.Advice = fmt.Sprintf("Grant role %s what it lacks on node %s: %s", role, s.sub.Node, strings.Join(grants, " "))
	case secured && stop.Op != change.Truncate.String(): // no policy speaks of that
		op := strings.ToUpper(stop.Op)
		if stop.Op == "copy" {
			op = "INSERT"
		}
		have := "none of its policies applies to the role"
		if policies != "" {
			have = "these policies do: " + policies
		}
		stop.Advice = fmt.Sprintf("Row-level security of table %s on node %s applies to role %s; %s. "+
			"Let one of them admit the row for %s and SELECT, or add one: CREATE POLICY pg_courier ON %[1]s TO %[3]s USING (true) WITH CHECK (true); "+
			"or exempt the role: ALTER ROLE %[3]s BYPASSRLS;", table, s.sub.Node, role, have, op)
		if state == dblink.StateMissing {
			stop.Advice += " If the row is not there at all, insert it."
		}
	default:
		return stop
	}
	stop.Advice += " Shipping then goes on by itself."
	return stop
}
