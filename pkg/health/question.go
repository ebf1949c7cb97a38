package health

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// question is what a line is asked.
type question int

const (
	nothing question = iota
	setup            // once a line, with its settings
	full             // what changes rarely
	probe
)

// sql has the statements. Answers are int8s, one a statement, so several values
// are packed into one.
func (q question) sql(deadline time.Duration) string {
	switch q {
	case setup:
		return fmt.Sprintf(`SELECT pg_catalog.set_config('search_path', 'pg_catalog', false);
SET statement_timeout = %d;
SET lock_timeout = %[1]d;
SET client_min_messages = 'error';
SET application_name = 'pg_courier probe';
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout';
SELECT current_setting('server_version_num')::int8`, max(1, deadline.Milliseconds()))
	case full:
		return fullSQL
	default:
		return probeSQL
	}
}

// fullSQL counts sessions by what a role without privileges may see: those of
// other roles have a database, but their backend_type is hidden. A setting made
// for a role in a database goes before one for the role, before one for the
// database.
const fullSQL = `SELECT (greatest(m.most - u.used, 0) * 1000000 + m.most) * 2 + r.read_only::int
FROM (SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
             - coalesce(current_setting('reserved_connections', true), '0')::int8 AS most) m,
     (SELECT count(*) AS used FROM pg_stat_activity
      WHERE coalesce(backend_type = 'client backend', datid IS NOT NULL)) u,
     (SELECT coalesce((SELECT split_part(o, '=', 2)::bool
                       FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) o
                       WHERE o LIKE 'default\_transaction\_read\_only=%'
                         AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                         AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
                       ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1), false) AS read_only) r`

const probeSQL = `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 * 4
	+ pg_is_in_recovery()::int * 2 + (current_setting('transaction_read_only') = 'on')::int`

// hear takes in an answer. An error means that the line is of no use.
func (p *Prober) hear(n *node, a dblink.Answer, sent time.Time) *session.Error {
	asked := n.asking
	n.asking = nothing
	if a.Err == nil && len(a.Values) == 0 {
		a.Err = &session.Error{SQLState: "08006", Message: "the answer to a probe is empty"}
	}
	if a.Err != nil {
		if asked == full && a.Err.SQLState[:2] == "42" { // a privilege that somebody revoked
			n.status.ConnectionsLeft = -1
			return nil
		}
		return a.Err
	}
	value := a.Values[len(a.Values)-1]
	switch asked {
	case setup:
		n.status.ServerVersion = fmt.Sprintf("%d.%d", value/10000, value%10000)
	case full:
		n.readOnly[1] = value&1 == 1
		n.limit = int(value / 2 % 1000000)
		n.status.ConnectionsLeft = int(value / 2 / 1000000)
	case probe:
		p.hearProbe(n, value, sent, a.Answered)
	}
	return nil
}

func (p *Prober) hearProbe(n *node, value int64, sent, answered time.Time) {
	now := p.now()
	pause := jitter(p.config.Interval)
	if !n.answered { // lines opened together are not asked together for ever
		pause = rand.N(p.config.Interval) + 1
	}
	n.answered, n.failures = true, 0
	n.took(answered.Sub(sent))
	n.status.ClockOffset = time.UnixMicro(value >> 2).Sub(sent.Add(answered.Sub(sent) / 2))
	n.status.InRecovery = value&2 == 2
	n.readOnly[0] = value&1 == 1
	n.status.ReadOnly = n.readOnly[0] || n.readOnly[1]
	n.status.ProbedAt = now
	// A line that is read-only stays so whatever is set later.
	if n.readOnly[0] && !n.status.InRecovery && n.probes == 0 && now.Sub(n.opened) > p.config.Interval {
		n.hangUp = true
	}
	n.due = now.Add(pause)
	n.status.NextProbe = n.due
	p.conclude(n, n.judge(now))
}
