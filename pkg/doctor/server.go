package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The major versions of PostgreSQL that are supported and tested.
const (
	oldestMajor = 14
	newestMajor = 18
)

// server is what is asked of either side: the source's session, or the session
// on a node.
type server struct {
	Role           string     `json:"role"`     // quoted, as all names here
	Database       string     `json:"database"` //
	Version        string     `json:"version"`
	VersionNum     int        `json:"version_num"`
	Encoding       string     `json:"encoding"`
	InRecovery     bool       `json:"in_recovery"`
	FSync          bool       `json:"fsync"`
	Encrypted      bool       `json:"encrypted"`
	Client         netip.Addr `json:"client"` // not valid: over a Unix socket
	Server         netip.Addr `json:"server"`
	LogStatement   string     `json:"log_statement"`
	LogDuration    int64      `json:"log_duration"` // ms, -1 for off
	ServerLeft     int        `json:"server_left"`  // connections
	RoleLeft       *int       `json:"role_left"`    // null for no limit
	DatabaseLeft   *int       `json:"database_left"`
	MaxConnections int        `json:"max_connections"`
}

const askServer = `
SELECT pg_catalog.jsonb_build_object(
    'role', pg_catalog.quote_ident(current_user),
    'database', pg_catalog.quote_ident(d.datname),
    'version', pg_catalog.current_setting('server_version'),
    'version_num', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    'encoding', pg_catalog.current_setting('server_encoding'),
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'fsync', pg_catalog.current_setting('fsync')::pg_catalog.bool,
    'encrypted', coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), false),
    'client', coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), ''),
    'server', coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), ''),
    'log_statement', pg_catalog.current_setting('log_statement'),
    'log_duration', (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'log_min_duration_statement'),
    'max_connections', pg_catalog.current_setting('max_connections')::pg_catalog.int4,
    'server_left', pg_catalog.current_setting('max_connections')::pg_catalog.int4
        - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
        - coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0)
        - (SELECT pg_catalog.sum(numbackends) FROM pg_catalog.pg_stat_database),
    'role_left', CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit
        - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) END,
    'database_left', CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit
        - (SELECT numbackends FROM pg_catalog.pg_stat_database s WHERE s.datid = d.oid) END)
FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user`

func (s *server) version() []Finding {
	if major := s.VersionNum / 10000; major < oldestMajor {
		return []Finding{{Severity: Error, Message: "PostgreSQL " + s.Version + " is not supported",
			Why:    "pg_courier needs features of later versions.",
			Remedy: fmt.Sprintf("Upgrade the server to PostgreSQL %d to %d.", oldestMajor, newestMajor)}}
	} else if major > newestMajor {
		return []Finding{{Severity: Warning, Message: "PostgreSQL " + s.Version + " is newer than this courier knows",
			Why:    fmt.Sprintf("It was tested with versions %d to %d.", oldestMajor, newestMajor),
			Remedy: "See whether there is a newer pg_courier."}}
	}
	return nil
}

func (s *server) durability(side string) []Finding {
	if s.FSync {
		return nil
	}
	return []Finding{{Severity: Warning, Message: "fsync is off",
		Why:    "A crash of the host loses or damages what was committed, and nobody can tell which of it had been shipped.",
		Remedy: "ALTER SYSTEM SET fsync = on;\nSELECT pg_reload_conf();", RunOn: side}}
}

// connections judges by the tightest of the limits.
func (s *server) connections(side string, limit int) []Finding {
	f := Finding{Severity: Warning, RunOn: side,
		Why: "Without a connection left, shipping cannot go on after an interruption."}
	if s.RoleLeft != nil && *s.RoleLeft < limit {
		f.Message = fmt.Sprintf("role %s has %d connections left of its own limit", s.Role, max(*s.RoleLeft, 0))
		f.Remedy = "ALTER ROLE " + s.Role + " CONNECTION LIMIT -1;"
		return []Finding{f}
	}
	if s.DatabaseLeft != nil && *s.DatabaseLeft < limit {
		f.Message = fmt.Sprintf("database %s has %d connections left of its own limit", s.Database, max(*s.DatabaseLeft, 0))
		f.Remedy = "ALTER DATABASE " + s.Database + " CONNECTION LIMIT -1;"
		return []Finding{f}
	}
	if s.ServerLeft < limit {
		f.Message = fmt.Sprintf("the server has %d of %d connections left", max(s.ServerLeft, 0), s.MaxConnections)
		f.Remedy = fmt.Sprintf("ALTER SYSTEM SET max_connections = %d;\n-- and restart the server", 2*s.MaxConnections)
		return []Finding{f}
	}
	return nil
}

// logging looks for settings that write whole batches to the node's log.
func (s *server) logging() []Finding {
	var findings []Finding
	log := func(setting, value, to string) {
		findings = append(findings, Finding{Severity: Warning, RunOn: OnNode,
			Message: fmt.Sprintf("%s of role %s is %s", setting, s.Role, value),
			Why:     "Batches are statements with the rows in them: the node's log gets what the tables hold.",
			Remedy:  fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = %s;", s.Role, s.Database, setting, to)})
	}
	if s.LogStatement == "mod" || s.LogStatement == "all" {
		log("log_statement", s.LogStatement, "'none'")
	}
	if s.LogDuration >= 0 {
		log("log_min_duration_statement", fmt.Sprintf("%dms", s.LogDuration), "-1")
	}
	return findings
}

// local reports whether the connection stays on one host.
func (s *server) local() bool {
	return !s.Client.IsValid() || s.Client.Unmap().IsLoopback() || s.Client == s.Server
}

// judgeTLS judges a connection by whether it is encrypted and by the libpq
// sslmode that asks for it. PostgreSQL's own default is prefer.
func judgeTLS(local, encrypted bool, sslmode string) *Finding {
	if sslmode == "" {
		sslmode = "prefer"
	}
	switch {
	case local:
		return nil
	case !encrypted:
		return &Finding{Severity: Warning, Message: "the connection is not encrypted",
			Why: "Whoever is on the network can read and change what is shipped."}
	case sslmode == "verify-full":
		return nil
	case sslmode == "require" || sslmode == "verify-ca":
		return &Finding{Severity: Info, Message: "sslmode is " + sslmode,
			Why: "The connection is encrypted, but it is not made sure that it ends at the right host."}
	}
	return &Finding{Severity: Warning, Message: "sslmode is " + sslmode,
		Why: "The connection is encrypted only as long as nobody in between wants otherwise."}
}

// judgeClock judges how far a node's clock is ahead of the source's.
func judgeClock(offset, limit time.Duration) []Finding {
	if offset.Abs() <= limit {
		return nil
	}
	direction := "ahead of"
	if offset < 0 {
		direction = "behind"
	}
	return []Finding{{Severity: Warning,
		Message: fmt.Sprintf("the node's clock is %s %s the source's", offset.Abs().Round(time.Millisecond), direction),
		Why:     "Times of both sides are compared in what is shown and, later, in conflicts.",
		Remedy:  "Set the clocks of both hosts by NTP (chrony, systemd-timesyncd)."}}
}

// judgeEncoding judges whether every text of the source can be kept on the node.
func judgeEncoding(source, node string) []Finding {
	const remedy = "Make the node's database in UTF8: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
	switch {
	case source == node && source != "SQL_ASCII":
		return nil
	case source == "SQL_ASCII" || node == "SQL_ASCII":
		return []Finding{{Severity: Warning, Message: fmt.Sprintf("encodings are %s on the source and %s on the node", source, node),
			Why:    "SQL_ASCII says nothing of what the bytes of a text mean: what arrives may be refused, or read as something else.",
			Remedy: strings.Replace(remedy, "the node's database", "both databases", 1)}}
	case node == "UTF8":
		return nil
	}
	return []Finding{{Severity: Warning, Message: fmt.Sprintf("encodings are %s on the source and %s on the node", source, node),
		Why:    "A character that the node's encoding lacks stops the subscription.",
		Remedy: remedy}}
}
