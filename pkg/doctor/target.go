package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// examine asks what a node that has been reached can answer.
func (e *nodeExamination) examine(ctx context.Context) {
	e.check(ctx, "node-identity", "it is another database", e.otherDatabase)
	e.check(ctx, "tls", "the connection is safe", just(e.tls()))
	e.check(ctx, "server-version", "PostgreSQL "+e.Version, just(e.version()))
	e.check(ctx, "writable", "the server is a primary", just(e.writable()))
	e.check(ctx, "encoding", "every text can be kept: "+e.Encoding, just(judgeEncoding(e.source.Encoding, e.Encoding)))
	e.check(ctx, "durability", "fsync is on", just(e.durability(OnNode)))
	e.check(ctx, "connections", fmt.Sprintf("%d connections are left", e.ServerLeft), just(e.connections(OnNode, e.limits.ConnectionsLeft)))
	e.check(ctx, "logging", "statements are not logged", just(e.logging()))
	e.check(ctx, "target-objects", "schema courier_target is complete, or can be made", e.targetObjects)
	e.check(ctx, "replication-role", "foreign keys and triggers stay out of the way", just(e.replicationRole()))
	e.examineTables(ctx)
}

func (e *nodeExamination) otherDatabase(ctx context.Context) ([]Finding, error) {
	var identity string
	err := e.ask(ctx, &identity, "SELECT pg_catalog.to_json(("+askIdentity+"))")
	if err != nil || identity != e.of.Identity {
		return nil, err
	}
	return []Finding{{Severity: Error, Message: "the node is this very database",
		Why:    "Rows would be written over themselves.",
		Remedy: "Set host and dbname right: ALTER SERVER " + e.of.Quoted + " OPTIONS (SET ...)."}}, nil
}

func (e *nodeExamination) tls() []Finding {
	mode := e.of.Options["sslmode"]
	f := judgeTLS(e.server.local() && !e.config.distant, e.Encrypted, mode)
	if f == nil {
		return nil
	}
	verb := "ADD"
	if mode != "" {
		verb = "SET"
	}
	f.Remedy = fmt.Sprintf("ALTER SERVER %s OPTIONS (%s sslmode 'verify-full');\n-- the node needs a certificate, and sslrootcert here its issuer's", e.of.Quoted, verb)
	f.RunOn = OnSource
	return []Finding{*f}
}

func (e *nodeExamination) writable() []Finding {
	if !e.InRecovery {
		return nil
	}
	return []Finding{{Severity: Error, Message: "the server is a standby",
		Why:    "Nothing can be written there.",
		Remedy: fmt.Sprintf("Name the primary, or all hosts: ALTER SERVER %s OPTIONS (SET host '...', ADD target_session_attrs 'read-write').", e.of.Quoted)}}
}

func (e *nodeExamination) replicationRole() []Finding {
	if e.link.Replica {
		return nil
	}
	f := Finding{Severity: Info, Message: fmt.Sprintf("role %s may not set session_replication_role", e.Role),
		Why:    "Foreign keys and triggers of the node act on what arrives: slower, and a trigger may change rows.",
		Remedy: fmt.Sprintf("GRANT SET ON PARAMETER session_replication_role TO %s;", e.Role), RunOn: OnNode}
	if e.VersionNum < 150000 {
		f.Remedy, f.RunOn = "Before PostgreSQL 15 that takes a superuser.", ""
	}
	return []Finding{f}
}

// targetObjects looks at the bookkeeping, by the rules of shipping.
func (e *nodeExamination) targetObjects(ctx context.Context) ([]Finding, error) {
	complete, strangers, err := ship.TargetObjects(ctx, e.link)
	if err != nil {
		return nil, err
	}
	var have struct {
		Schema  bool     `json:"schema"`
		Make    bool     `json:"make"`    // may create schemas
		Create  bool     `json:"create"`  // may create in courier_target
		Use     bool     `json:"use"`     // may use all that is in it
		Reclaim []string `json:"reclaim"` // statements that make it the role's
	}
	if err = e.ask(ctx, &have, `
		SELECT pg_catalog.jsonb_build_object(
		    'schema', n.oid IS NOT NULL,
		    'make', pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
		    'create', coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false),
		    'use', coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false) AND NOT EXISTS (
		        SELECT FROM pg_catalog.pg_class c, pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
		        WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND NOT pg_catalog.has_table_privilege(c.oid, p)),
		    'reclaim', (SELECT pg_catalog.jsonb_agg(s.sql) FROM (
		        SELECT pg_catalog.format('ALTER SCHEMA courier_target OWNER TO %I;', current_user) AS sql
		        WHERE n.nspowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
		        UNION ALL SELECT pg_catalog.format('ALTER TABLE courier_target.%I OWNER TO %I;', c.relname, current_user)
		        FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'
		        UNION ALL SELECT pg_catalog.format('ALTER ROUTINE %s OWNER TO %I;', p.oid::pg_catalog.regprocedure, current_user)
		        FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid) s))
		FROM (VALUES (true)) AS one (row)
		LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'courier_target'`); err != nil {
		return nil, err
	}
	const why = "The node's progress is kept there; without it nothing is applied."
	switch {
	case strangers != "":
		return []Finding{{Severity: Error, Message: "schema courier_target or an object in it belongs to role " + strangers,
			Why:    "A function of somebody else would run with the rights of role " + e.Role + "; shipping refuses that.",
			Remedy: strings.Join(have.Reclaim, "\n"), RunOn: OnNode}}, nil
	case !have.Schema && !have.Make:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("schema courier_target is missing, and role %s may not create it", e.Role),
			Why: why, Remedy: fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", e.Database, e.Role), RunOn: OnNode}}, nil
	case have.Schema && !complete && !have.Create:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("schema courier_target is incomplete, and role %s may not create in it", e.Role),
			Why: why, Remedy: fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA courier_target TO %s;", e.Role), RunOn: OnNode}}, nil
	case complete && !have.Use:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("role %s lacks privileges on schema courier_target or its tables", e.Role),
			Why: why, Remedy: fmt.Sprintf("GRANT USAGE ON SCHEMA courier_target TO %s;\nGRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA courier_target TO %[1]s;", e.Role), RunOn: OnNode}}, nil
	}
	return nil, nil
}
