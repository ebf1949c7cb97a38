package doctor

import (
	"context"
	"fmt"
)

// capture looks for capture triggers that do not fire, by the rule of
// courier.sync_capture(), and for those of partitions, which are clones.
func (e *source) capture(ctx context.Context) ([]Finding, error) {
	var wrong []struct {
		Table   string `json:"table"`
		Trigger string `json:"trigger"`
		Enabled string `json:"enabled"` // tgenabled, empty: no trigger
	}
	err := e.one(ctx, &wrong, `
		SELECT coalesce(pg_catalog.jsonb_agg(w ORDER BY w."table", w.trigger), '[]') FROM (
		SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS "table", w.trigger, coalesce(g.tgenabled, '') AS enabled
		FROM (SELECT DISTINCT t.relation FROM courier.subscription_table t
		      JOIN courier.subscription s USING (subscription_id)
		      WHERE s.capture = 'trigger' AND s.start_position IS NOT NULL) r
		JOIN pg_catalog.pg_class c ON c.oid = r.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN (VALUES ('!pg_courier_row', 'courier.capture_row()'::pg_catalog.regprocedure),
		                   ('!pg_courier_truncate', 'courier.capture_truncate()'),
		                   ('!pg_courier_truncate_begin', 'courier.capture_truncate()')) w (trigger, function)
		LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = r.relation AND g.tgname = w.trigger AND g.tgfoid = w.function
		WHERE g.tgenabled IS DISTINCT FROM 'O'
		UNION ALL
		SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), g.tgname, g.tgenabled
		FROM pg_catalog.pg_trigger g
		JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE g.tgfoid = 'courier.capture_row()'::pg_catalog.regprocedure AND g.tgparentid <> 0 AND g.tgenabled <> 'O') w`)
	var findings []Finding
	for _, w := range wrong {
		f := Finding{Severity: Error, Table: w.Table, RunOn: OnSource,
			Why:    "What is written to the table is not captured and never arrives.",
			Remedy: fmt.Sprintf(`ALTER TABLE %s ENABLE TRIGGER "%s";`, w.Table, w.Trigger)}
		const meanwhile = "\n-- what was written without it is missing on the nodes: compare the table, or copy it anew"
		switch w.Enabled {
		case "":
			f.Message = fmt.Sprintf("capture trigger %q is missing", w.Trigger)
			f.Remedy = "SELECT courier.sync_capture();" + meanwhile
		case "A":
			f.Severity = Warning
			f.Message = fmt.Sprintf("capture trigger %q is enabled ALWAYS", w.Trigger)
			f.Why = "Changes that arrive here from another node are captured too and sent on, perhaps back to where they came from."
		case "R":
			f.Message = fmt.Sprintf("capture trigger %q is enabled for replicas only", w.Trigger)
			f.Remedy += meanwhile
		default:
			f.Message = fmt.Sprintf("capture trigger %q is disabled", w.Trigger)
			f.Remedy += meanwhile
		}
		findings = append(findings, f)
	}
	return findings, err
}

// replicaIdentity looks for tables whose rows cannot be found on a node.
func (e *source) replicaIdentity(ctx context.Context) ([]Finding, error) {
	var poor []struct {
		Table     string `json:"table"`
		Identity  string `json:"identity"`
		Primary   bool   `json:"primary"`
		Candidate string `json:"candidate"` // a unique index that would do
	}
	err := e.one(ctx, &poor, `
		SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
		    'table', pg_catalog.format('%I.%I', n.nspname, c.relname), 'identity', c.relreplident,
		    'primary', p.usable, 'candidate', coalesce(u.name, '')) ORDER BY n.nspname, c.relname), '[]')
		FROM (SELECT DISTINCT relation FROM courier.subscription_table WHERE replicate_update OR replicate_delete) r
		JOIN pg_catalog.pg_class c ON c.oid = r.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
		    WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS usable) p
		LEFT JOIN LATERAL (
		    SELECT pg_catalog.quote_ident(x.relname) AS name FROM pg_catalog.pg_index i
		    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
		    WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
		      AND i.indpred IS NULL AND i.indexprs IS NULL
		      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
		                      WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
		    ORDER BY x.relname LIMIT 1) u ON true
		WHERE courier.key_columns(c.oid) IS NULL OR (c.relreplident = 'f' AND NOT p.usable)`)
	var findings []Finding
	for _, t := range poor {
		f := Finding{Severity: Error, Table: t.Table, RunOn: OnSource,
			Message: "the table has no key by which a changed row is found",
			Why:     "Its updates and deletes cannot be sent; the first one stops the subscription.",
			Remedy:  fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", t.Table)}
		switch {
		case t.Identity == "f":
			f.Severity = Info
			f.Message = "the table has REPLICA IDENTITY FULL and no primary key"
			f.Why = "Updates and deletes are applied one by one, each comparing all columns: slow for a large table."
			f.Remedy, f.RunOn = fmt.Sprintf("Give it a key: ALTER TABLE %s ADD PRIMARY KEY (...).", t.Table), ""
			if t.Candidate != "" {
				f.Remedy, f.RunOn = fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", t.Table, t.Candidate), OnSource
			}
		case t.Primary:
			f.Remedy = fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", t.Table)
		case t.Candidate != "":
			f.Remedy = fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", t.Table, t.Candidate)
		}
		findings = append(findings, f)
	}
	return findings, err
}

// copyPrivileges looks for tables that this role cannot read whole.
func (e *source) copyPrivileges(ctx context.Context) ([]Finding, error) {
	var findings []Finding
	for i := range e.subscriptions {
		s := &e.subscriptions[i]
		if !s.CopyData || len(s.tables) == 0 {
			continue
		}
		var closed []struct {
			Table  string `json:"table"`
			Select bool   `json:"select"`
		}
		if err := e.one(ctx, &closed, `
			SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('table',
			    pg_catalog.format('%I.%I', t.schema_name, t.table_name), 'select', p.may) ORDER BY 1), '[]')
			FROM courier.subscription_table t
			CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(t.relation, 'SELECT') AS may) p
			WHERE t.subscription_id = $1::pg_catalog.int4
			  AND (NOT p.may OR pg_catalog.row_security_active(t.relation))`, fmt.Sprint(s.ID)); err != nil {
			return findings, err
		}
		for _, t := range closed {
			f := Finding{Severity: Warning, Subscription: s.Name, Table: t.Table, RunOn: OnSource,
				Message: fmt.Sprintf("role %s may not read the table", e.Role),
				Why:     "Its rows cannot be copied to the node.",
				Remedy:  fmt.Sprintf("GRANT SELECT ON %s TO %s;", t.Table, e.Role)}
			if t.Select {
				f.Message = fmt.Sprintf("row security hides rows of the table from role %s", e.Role)
				f.Remedy = fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", e.Role)
			}
			if s.State == "copying" {
				f.Severity = Error
			}
			findings = append(findings, f)
		}
	}
	return findings, nil
}
