package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// node is a row of courier.node with its foreign server.
type node struct {
	Name     string            `json:"name"`
	Server   string            `json:"server"`  // name
	Quoted   string            `json:"quoted"`  // the same, quoted
	Present  bool              `json:"present"` // there is a foreign server of dblink_fdw
	Usage    bool              `json:"usage"`   // this role may use it
	Mapping  bool              `json:"mapping"` // and has a user mapping for it
	Options  map[string]string `json:"options"` // of the server, none of them secret
	Identity string            `json:"identity"`
}

// The identity is that of the source, to be compared.
const askNodes = `
SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
    'name', n.node_name,
    'server', n.server_name,
    'quoted', pg_catalog.quote_ident(n.server_name),
    'present', s.oid IS NOT NULL,
    'usage', coalesce(pg_catalog.has_server_privilege(s.oid, 'USAGE'), false),
    'mapping', EXISTS (SELECT FROM pg_catalog.pg_user_mappings m WHERE m.srvid = s.oid
                       AND m.umuser IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user))),
    'options', coalesce((SELECT pg_catalog.jsonb_object_agg(o.option_name, o.option_value)
                         FROM pg_catalog.pg_options_to_table(s.srvoptions) o), '{}'),
    'identity', (` + askIdentity + `)) ORDER BY n.node_name), '[]')
FROM courier.node n
LEFT JOIN (pg_catalog.pg_foreign_server s
           JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'dblink_fdw')
       ON s.srvname = n.server_name`

const askIdentity = `SELECT system_identifier || '/' || (SELECT oid FROM pg_catalog.pg_database
	WHERE datname = pg_catalog.current_database()) FROM pg_catalog.pg_control_system()`

// nodeExamination is the examination of a node, by a session on the source and a
// dblink connection made there.
type nodeExamination struct {
	examination
	source *source // its facts; its session has ended
	of     *node
	link   *dblink.Link
	server
}

// examineNode examines a node through a session of its own.
func examineNode(ctx context.Context, from *source, dsn string, of *node) []Finding {
	e := &nodeExamination{source: from, of: of,
		examination: examination{config: from.config, limits: from.limits, database: from.database, node: of.Name}}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	e.check(ctx, "user-mapping", "server, privilege and user mapping are there", just(e.usable()))
	if !of.Present || !of.Usage || !of.Mapping {
		return e.findings
	}
	e.check(ctx, "server-options", "a dead link is noticed", just(e.serverOptions()))
	s, err := e.open(ctx, dsn)
	if err != nil {
		e.record("node-connection", Finding{Severity: Error, Message: "no session for it on the source: " + oneLine(err.Error())})
		return e.findings
	}
	e.session = s
	defer s.Close(ctx)
	if e.connect(ctx) {
		e.examine(ctx)
	}
	return e.findings
}

// usable looks at what is needed on the source before anything is sent.
func (e *nodeExamination) usable() []Finding {
	const why = "The node cannot be reached without."
	switch {
	case !e.of.Present:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("foreign server %s does not exist", e.of.Quoted), Why: why,
			Remedy: fmt.Sprintf("Make it, with a user mapping: CREATE SERVER %s FOREIGN DATA WRAPPER dblink_fdw OPTIONS (...).", e.of.Quoted)}}
	case !e.of.Usage:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("role %s may not use foreign server %s", e.source.Role, e.of.Quoted), Why: why,
			Remedy: fmt.Sprintf("GRANT USAGE ON FOREIGN SERVER %s TO %s;", e.of.Quoted, e.source.Role), RunOn: OnSource}}
	case !e.of.Mapping:
		return []Finding{{Severity: Error, Message: fmt.Sprintf("role %s has no user mapping for foreign server %s", e.source.Role, e.of.Quoted), Why: why,
			Remedy: fmt.Sprintf("Make one: CREATE USER MAPPING FOR PUBLIC SERVER %s OPTIONS (user '...', password '...').", e.of.Quoted)}}
	}
	return nil
}

// Options that bound how long a dead link goes unnoticed, with what
// create_node() gives them.
var linkOptions = []struct {
	name, value string
	tcp         bool // of no use over a Unix socket
}{
	{"connect_timeout", "10", false},
	{"keepalives_idle", "10", true},
	{"keepalives_interval", "5", true},
	{"keepalives_count", "3", true},
	{"tcp_user_timeout", "30000", true},
}

func (e *nodeExamination) serverOptions() []Finding {
	o := e.of.Options
	if o["service"] != "" {
		return nil // they may be in the service file, which is on the source's host
	}
	socket := o["hostaddr"] == "" && (o["host"] == "" || strings.HasPrefix(o["host"], "/"))
	var missing, changes []string
	for _, option := range linkOptions {
		value, present := o[option.name]
		if option.tcp && socket || present && value != "0" {
			continue
		}
		verb := "ADD"
		if present {
			verb = "SET"
		}
		missing = append(missing, option.name)
		changes = append(changes, fmt.Sprintf("%s %s '%s'", verb, option.name, option.value))
	}
	if !socket && o["keepalives"] == "0" {
		missing = append(missing, "keepalives")
		changes = append(changes, "SET keepalives '1'")
	}
	if len(missing) == 0 {
		return nil
	}
	return []Finding{{Severity: Warning, Message: fmt.Sprintf("foreign server %s lacks %s", e.of.Quoted, strings.Join(missing, ", ")),
		Why:    "A link that dies without a word (a cut cable, a firewall that forgets) would hold up shipping for many minutes.",
		Remedy: fmt.Sprintf("ALTER SERVER %s OPTIONS (%s);", e.of.Quoted, strings.Join(changes, ", ")), RunOn: OnSource}}
}

// connect reaches the node twice: by ping, which tells the clock, and by a link
// as a shipper has it. Whatever fails is one finding.
func (e *nodeExamination) connect(ctx context.Context) bool {
	fail := func(err error) bool {
		e.record("node-connection", e.unreachable(err))
		return false
	}
	connecting, cancel := context.WithTimeout(ctx, e.config.connect)
	defer cancel()
	var ping struct {
		RoundTrip float64 `json:"round_trip"`
		Offset    float64 `json:"offset"`
	}
	if err := e.one(connecting, &ping, `SELECT pg_catalog.jsonb_build_object('round_trip', EXTRACT(epoch FROM p.round_trip),
		'offset', EXTRACT(epoch FROM p.clock_offset)) FROM courier.ping($1) p`, e.of.Name); err != nil {
		return fail(err)
	}
	if err := e.openLink(connecting); err != nil {
		return fail(err)
	}
	if err := e.ask(connecting, &e.server, askServer); err != nil {
		return fail(err)
	}
	e.record("node-connection", Finding{Severity: OK, Message: fmt.Sprintf("connected as role %s, an answer takes %s",
		e.Role, time.Duration(ping.RoundTrip*float64(time.Second)).Round(10*time.Microsecond))})
	e.check(ctx, "clock", "the clocks agree", just(judgeClock(time.Duration(ping.Offset*float64(time.Second)), e.limits.ClockOffset)))
	return true
}

// openLink connects as a shipper does, for reading.
func (e *nodeExamination) openLink(ctx context.Context) (err error) {
	if e.link, err = dblink.Open(ctx, e.session, "pg_courier_doctor", e.of.Name, e.of.Server); err != nil {
		return err
	}
	return e.link.Exec(ctx, "SET default_transaction_read_only = on; SET statement_timeout = '30s'")
}

// unreachable explains why. libpq's words are in the detail; they name host and
// reason, never a password.
func (e *nodeExamination) unreachable(err error) Finding {
	f := Finding{Severity: Error, Message: oneLine(err.Error()),
		Why:    "Nothing can be sent to the node; its tables and privileges are not examined.",
		Remedy: "See that the node's server runs and lets the role in; SELECT * FROM courier.ping(" + literal(e.of.Name) + ") tells why not."}
	var database *session.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.Message = fmt.Sprintf("there is no answer within %s", e.config.connect)
		f.Remedy = "See that host and port are right (" + e.of.Quoted + " is the foreign server) and that no firewall swallows what is sent there."
	case errors.As(err, &database):
		if database.Detail != "" {
			f.Message += ": " + oneLine(database.Detail)
		}
		if database.SQLState != "" {
			f.Message += " (" + database.SQLState + ")"
		}
		if database.Hint != "" {
			f.Remedy = oneLine(database.Hint)
		}
	}
	return f
}

// ask runs a query that gives one value, in JSON, on the node.
func (e *nodeExamination) ask(ctx context.Context, into any, sql string) error {
	rows, err := e.link.Query(ctx, sql, 1)
	if err != nil || len(rows) == 0 || rows[0][0] == nil {
		return err
	}
	return decode(string(rows[0][0]), into)
}
