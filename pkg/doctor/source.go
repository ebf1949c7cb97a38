package doctor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-courier/pg_courier/pkg/ship"
	"github.com/pg-courier/pg_courier/pkg/status"
)

// source is the examination of a source database.
type source struct {
	examination
	server
	installation

	status        status.Database
	subscriptions []subscription
	nodes         []node
}

// installation is the extension as the server and the database have it.
type installation struct {
	Installed     string  `json:"installed"` // version, empty if not in the database
	Available     string  `json:"available"` // version that the server has the files of
	DBLink        bool    `json:"dblink"`
	Preloaded     *string `json:"preloaded"` // null: this role may not know
	Owner         string  `json:"owner"`     // of the extension
	Administrator bool    `json:"administrator"`
}

const askExtension = `
SELECT pg_catalog.jsonb_build_object(
    'installed', e.extversion,
    'available', (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'pg_courier'),
    'dblink', EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'dblink'),
    'preloaded', (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries'),
    'owner', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner)),
    'administrator', pg_catalog.pg_has_role(e.extowner, 'USAGE'))
FROM (VALUES (true)) AS one (row)
LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_courier'`

// subscription is a row of courier.subscription; status has more of it.
type subscription struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Node     string `json:"node"`
	CopyData bool   `json:"copy_data"`
	Started  bool   `json:"started"` // has a position; else restored from a dump
	State    string `json:"state"`
	tables   []ship.Table
}

const askSubscriptions = `
SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
    'id', s.subscription_id, 'name', s.subscription_name, 'node', s.node_name, 'copy_data', s.copy_data,
    'started', s.start_position IS NOT NULL, 'state', coalesce(t.state, '')) ORDER BY s.subscription_name), '[]')
FROM courier.subscription s LEFT JOIN courier.subscription_state t USING (subscription_id)`

// examineDatabase examines a source database and its nodes.
func examineDatabase(ctx context.Context, config *Config, database Database) []Finding {
	e := &source{examination: examination{config: config, limits: config.Limits, database: database.Name}}
	e.examine(ctx, database)
	found := make([][]Finding, len(e.nodes))
	var group sync.WaitGroup
	places := make(chan struct{}, nodesAtOnce)
	for i := range e.nodes {
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			found[i] = examineNode(ctx, e, database.DSN, &e.nodes[i])
		})
	}
	group.Wait()
	for _, findings := range found {
		e.findings = append(e.findings, findings...)
	}
	return e.findings
}

// examine asks what the source alone can answer.
func (e *source) examine(ctx context.Context, database Database) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	s, err := e.open(ctx, database.DSN)
	if err != nil {
		e.record("connection", Finding{Severity: Error, Message: oneLine(err.Error()),
			Why:    "Nothing of this database can be shipped or examined.",
			Remedy: "See that the server runs and that host, port, database, user and password are right; psql with the same connection string should connect."})
		return
	}
	e.session = s
	defer s.Close(ctx)
	if err = e.one(ctx, &e.server, askServer); err == nil {
		err = e.one(ctx, &e.installation, askExtension)
	}
	if err != nil {
		e.record("connection", Finding{Severity: Error, Message: "the server does not answer as expected: " + oneLine(err.Error()),
			Remedy: "See the server's log."})
		return
	}
	e.record("connection", Finding{Severity: OK, Message: "connected as role " + e.Role})
	e.check(ctx, "tls", "the connection is safe", just(e.tls(database)))
	e.check(ctx, "server-version", "PostgreSQL "+e.Version, just(e.version()))
	e.check(ctx, "writable", "the server is a primary", just(e.writable()))
	e.check(ctx, "extension", "pg_courier "+e.Installed+" and dblink are installed", just(e.extension()))
	if e.Installed == "" {
		return
	}
	e.check(ctx, "administrator", "role "+e.Role+" may ship", just(e.administrator()))
	e.check(ctx, "preload", "pg_courier is preloaded", just(e.preload()))
	e.check(ctx, "durability", "fsync is on", just(e.server.durability(OnSource)))
	e.check(ctx, "connections", fmt.Sprintf("%d connections are left", e.ServerLeft), just(e.server.connections(OnSource, e.limits.ConnectionsLeft)))
	e.check(ctx, "long-transactions", "no transaction is older than "+e.limits.LongTransaction.String(), e.longTransactions)
	e.check(ctx, "status", "the views can be read", func(ctx context.Context) ([]Finding, error) {
		return nil, status.ReadFrom(ctx, e.session, &e.status)
	})
	e.check(ctx, "subscriptions", fmt.Sprintf("%d subscriptions, all well", len(e.status.Subscriptions)), e.subscriptionStates)
	e.check(ctx, "queue", "its size is "+e.queueSize(), just(e.queue()))
	e.check(ctx, "dead-letters", "none is open", e.deadLetters)
	if !e.Administrator {
		return // the configuration is not to be read, nor a node reached
	}
	e.check(ctx, "configuration", "nodes, sets and subscriptions can be read", e.readConfiguration)
	e.check(ctx, "local-node", "this database has a name as a node", e.localNode)
	e.check(ctx, "capture", "every table has its triggers", e.capture)
	e.check(ctx, "replica-identity", "every table has a key", e.replicaIdentity)
	e.check(ctx, "copy-privileges", "tables to copy can be read", e.copyPrivileges)
}

// just is a check whose answer is known.
func just(findings []Finding) func(context.Context) ([]Finding, error) {
	return func(context.Context) ([]Finding, error) { return findings, nil }
}

func (e *source) tls(database Database) []Finding {
	mode := "prefer"
	if config, err := pgx.ParseConfig(database.DSN); err == nil && config.TLSConfig != nil && len(config.Fallbacks) == 0 {
		mode = "require"
		if !config.TLSConfig.InsecureSkipVerify {
			mode = "verify-full"
		}
	}
	f := judgeTLS(e.server.local() && !e.config.distant, e.Encrypted, mode)
	if f == nil {
		return nil
	}
	f.Remedy = "Add sslmode=verify-full and sslrootcert to the connection string, and give the server a certificate."
	return []Finding{*f}
}

func (e *source) writable() []Finding {
	if !e.InRecovery {
		return nil
	}
	return []Finding{{Severity: Error, Message: "the server is a standby",
		Why:    "Shipping notes its progress in the source and has to write there.",
		Remedy: "Name the primary, or all hosts with target_session_attrs=read-write in the connection string."}}
}

func (e *source) extension() []Finding {
	const why = "It captures the changes and keeps the queue."
	switch {
	case e.Installed == "" && e.Available == "":
		return []Finding{{Severity: Error, Message: "pg_courier is not installed on the server", Why: why,
			Remedy: "Run make install for this server, then CREATE EXTENSION pg_courier CASCADE in the database."}}
	case e.Installed == "":
		return []Finding{{Severity: Error, Message: "extension pg_courier is not in this database", Why: why,
			Remedy: "CREATE EXTENSION pg_courier CASCADE;", RunOn: OnSource}}
	}
	var findings []Finding
	if !e.DBLink {
		findings = append(findings, Finding{Severity: Error, Message: "extension dblink is not in this database",
			Why: "Nodes are reached through it.", Remedy: "CREATE EXTENSION dblink;", RunOn: OnSource})
	}
	program := e.config.Version
	known := program != "" && program[0] >= '0' && program[0] <= '9'
	update := Finding{Severity: Warning, Remedy: "ALTER EXTENSION pg_courier UPDATE;", RunOn: OnSource}
	switch {
	case known && program != e.Installed:
		f := update
		if minor(program) != minor(e.Installed) {
			f.Severity = Error
		}
		f.Message = fmt.Sprintf("the extension is version %s, this courier is %s", e.Installed, program)
		f.Why = "They are made for each other in the same version only."
		if e.Available != program {
			f.Remedy, f.RunOn = "Use the courier that came with the extension, or install the extension that came with this courier.", ""
		}
		findings = append(findings, f)
	case e.Available != "" && e.Available != e.Installed:
		f := update
		f.Message = fmt.Sprintf("the extension is version %s, the server has the files of %s", e.Installed, e.Available)
		f.Why = "The library in use is the new one, the functions and tables are the old ones."
		findings = append(findings, f)
	}
	return findings
}

// minor is the first two numbers of a version.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func (e *source) administrator() []Finding {
	if e.Administrator {
		return nil
	}
	return []Finding{{Severity: Error,
		Message: fmt.Sprintf("role %s may not administer pg_courier; configuration, tables and nodes are not examined", e.Role),
		Why:     "Shipping takes a superuser or a member of the role that owns the extension.",
		Remedy: fmt.Sprintf("Connect as a superuser or as a member of role %s, which owns the extension; GRANT %[1]s TO %s makes this role one.",
			e.Owner, e.Role)}}
}

func (e *source) preload() []Finding {
	if e.Preloaded == nil {
		return nil
	}
	var libraries []string
	for library := range strings.SplitSeq(*e.Preloaded, ",") {
		library = strings.Trim(strings.TrimSpace(library), `"`)
		if library == "pg_courier" {
			return nil
		}
		if library != "" {
			libraries = append(libraries, literal(library))
		}
	}
	// several names in one literal would be taken for a single one
	libraries = append(libraries, "'pg_courier'")
	return []Finding{{Severity: Info, Message: "pg_courier is not in shared_preload_libraries",
		Why:    "Everything works without; shippers then look for changes every few milliseconds to 0.2 s in place of being woken.",
		Remedy: "ALTER SYSTEM SET shared_preload_libraries = " + strings.Join(libraries, ", ") + ";\n-- and restart the server", RunOn: OnSource}}
}

// longTransactions looks at the whole server: positions name transactions of
// all its databases.
func (e *source) longTransactions(ctx context.Context) ([]Finding, error) {
	var old []struct {
		PID     int     `json:"pid"`
		Who     string  `json:"who"`
		State   string  `json:"state"`
		Seconds float64 `json:"seconds"`
		GID     string  `json:"gid"`
	}
	err := e.one(ctx, &old, `SELECT coalesce(pg_catalog.jsonb_agg(o ORDER BY o.seconds DESC), '[]') FROM (
		SELECT pid, 'role ' || coalesce(usename, '?') || ', database ' || coalesce(datname, '?') AS who, state,
		       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - xact_start) AS seconds, '' AS gid
		FROM pg_catalog.pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
		  AND xact_start < pg_catalog.clock_timestamp() - $1::pg_catalog.interval
		UNION ALL
		SELECT 0, 'role ' || owner || ', database ' || database, 'prepared',
		       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - prepared), gid
		FROM pg_catalog.pg_prepared_xacts
		WHERE prepared < pg_catalog.clock_timestamp() - $1::pg_catalog.interval) o`,
		fmt.Sprintf("%d milliseconds", e.limits.LongTransaction.Milliseconds()))
	var findings []Finding
	for _, o := range old {
		age := time.Duration(o.Seconds * float64(time.Second)).Round(time.Second)
		f := Finding{Severity: Warning,
			Why: "Its own changes are sent when it ends, and until then old rows of all tables are kept, those of the queue too."}
		if o.GID != "" {
			f.Message = fmt.Sprintf("transaction %q of %s has been prepared for %s", o.GID, o.Who, age)
			f.Remedy = fmt.Sprintf("Decide it, in its database: COMMIT PREPARED %s or ROLLBACK PREPARED %[1]s.", literal(o.GID))
		} else {
			f.Message = fmt.Sprintf("a transaction of %s, session %d, has been open for %s (%s)", o.Who, o.PID, age, o.State)
			f.Remedy, f.RunOn = fmt.Sprintf("SELECT pg_terminate_backend(%d);", o.PID), OnSource
		}
		findings = append(findings, f)
	}
	return findings, err
}

func (e *source) localNode(ctx context.Context) ([]Finding, error) {
	var named bool
	err := e.one(ctx, &named, "SELECT pg_catalog.to_json(EXISTS (SELECT FROM courier.local_node))")
	if err != nil || named {
		return nil, err
	}
	return []Finding{{Severity: Info, Message: "this database has no name as a node",
		Why:    "Nodes know it by the name of the database, which another source may have as well.",
		Remedy: "SELECT courier.set_local_node(" + literal(strings.Trim(e.Database, `"`)) + ");", RunOn: OnSource}}, nil
}

// readConfiguration reads what the checks after it, and those of the nodes, go by.
func (e *source) readConfiguration(ctx context.Context) ([]Finding, error) {
	if err := e.one(ctx, &e.subscriptions, askSubscriptions); err != nil {
		return nil, err
	}
	var findings []Finding
	for i := range e.subscriptions {
		s := &e.subscriptions[i]
		var err error
		if s.tables, err = ship.Tables(ctx, e.session, s.ID); err != nil {
			return findings, err
		}
		if !s.Started {
			findings = append(findings, Finding{Severity: Warning, Node: s.Node, Subscription: s.Name,
				Message: "the subscription was restored from a dump and has no position",
				Why:     "Nothing is captured for it, and it cannot be enabled.",
				Remedy:  "SELECT courier.drop_subscription(" + literal(s.Name) + ");\n-- and create it again", RunOn: OnSource})
		} else if len(s.tables) == 0 {
			findings = append(findings, Finding{Severity: Info, Node: s.Node, Subscription: s.Name,
				Message: "no table is in the replication sets of the subscription",
				Why:     "It sends nothing but events.",
				Remedy:  "Add tables: SELECT courier.replication_set_add_table('default', '...')."})
		}
	}
	return findings, e.one(ctx, &e.nodes, askNodes)
}
