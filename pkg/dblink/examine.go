package dblink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// backendState is what a node's backend is seen to do.
type backendState int

const (
	working     backendState = iota // executes the command, or waits for a lock
	idle                            // waits for us, as we do for it
	gone                            // has ended
	unreachable                     // the node does not answer
)

// String says it as part of an error.
func (s backendState) String() string {
	switch s {
	case working:
		return "its backend works on the command"
	case idle:
		return "its backend waits, and what was sent or answered is lost"
	case gone:
		return "its backend has ended"
	}
	return "it does not answer on another connection either"
}

// sight is what a look at the node has shown.
type sight struct {
	state    backendState
	event    string // what the backend waits for
	blockers string // backends that it waits for
	lock     string
	reason   string // why the node can't be reached
}

// examination asks for the backend. One that is active but reads from or writes
// to the client waits for us. If the server does not track activities, a
// transaction tells. To a role that is not shown the backend's start and state
// (options=-crole=... makes the login's session another's), it works.
const examination = `SELECT CASE
		WHEN a.state = 'disabled' THEN EXISTS (SELECT FROM pg_catalog.pg_locks AS l
			WHERE l.pid = a.pid AND l.locktype = 'virtualxid')
		WHEN a.state IS NULL THEN true
		ELSE a.state IN ('active', 'fastpath function call') AND a.wait_event_type IS DISTINCT FROM 'Client' END,
	pg_catalog.concat_ws(': ', a.wait_event_type, a.wait_event),
	pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(a.pid), ','),
	(SELECT pg_catalog.concat_ws(' ', l.mode, l.locktype, l.relation::pg_catalog.regclass)
	 FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1)
	FROM pg_catalog.pg_stat_activity AS a
	WHERE a.pid = %s AND (a.backend_start IS NULL OR extract(epoch from a.backend_start) = %s)`

// examine looks over a connection of its own what the link's backend does. An
// error is one of the local session.
func (l *Link) examine(ctx context.Context) (sight, error) {
	probe := &Link{session: l.session, name: l.name + "_probe", node: l.node, server: l.server, bounds: l.bounds}
	probe.bounds.silence = l.bounds.connect
	rows, err := probe.look(ctx, l)
	var db *session.Error
	switch {
	case err == nil:
	case !errors.As(err, &db) || ctx.Err() != nil:
		return sight{}, err
	default:
		if err = probe.Close(ctx); err != nil {
			return sight{}, err
		}
		return sight{state: unreachable, reason: strings.TrimSpace(db.Message + "\n" + db.Detail)}, nil
	}
	if err = probe.Close(ctx); err != nil {
		return sight{}, err
	}
	if len(rows) == 0 {
		return sight{state: gone}, nil
	}
	row := rows[0]
	seen := sight{state: idle, event: string(row[1]), blockers: string(row[2]), lock: string(row[3])}
	if string(row[0]) == "t" {
		seen.state = working
	}
	return seen, nil
}

// look asks for another link's backend, over this one. It is not itself looked
// into: silence ends it.
func (l *Link) look(ctx context.Context, other *Link) ([]session.Row, error) {
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	return l.query(ctx, fmt.Sprintf(examination, other.pid, other.started), 4)
}
