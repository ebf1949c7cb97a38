package dblink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// stateLocked is the SQLSTATE of a row that somebody else has locked.
const stateLocked = "55P03"

// Claim makes this link the one that ships a subscription. Sessions that its
// earlier links left on the node, because the connection was cut and the node
// does not know it yet, are ended if they stand in the way: if one holds the
// progress row, or if there is none yet and one is in a transaction that may make
// it. That is safe, because progress moves by compare-and-set; nothing is ended
// that does not stand in the way, so that two shippers which both believe to be
// the one don't end each other in turn.
//
// key is the subscription's in courier_target.progress, which must exist.
func (l *Link) Claim(ctx context.Context, key string) error {
	const (
		mark = "SELECT pg_catalog.set_config('application_name', %[1]s, false); "
		// of the same role in the same database: those it may end
		others = `FROM pg_catalog.pg_stat_get_activity(NULL) AS a
			WHERE a.application_name = %[1]s AND a.pid <> pg_catalog.pg_backend_pid()
			  AND a.usesysid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
			  AND a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`
		claim = mark + `SELECT (SELECT pg_catalog.count(*) FROM (
				SELECT FROM courier_target.progress WHERE subscription = %[2]s FOR UPDATE NOWAIT) AS p) > 0
			OR NOT EXISTS (SELECT ` + others + ` AND a.backend_xid IS NOT NULL)`
		// ends them, and waits until they have ended
		end = mark + "SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(a.pid, 5000)) " + others
	)
	name, literal := quote("pg_courier "+key), quote(key)
	free, err := l.value(ctx, fmt.Sprintf(claim, name, literal))
	if free == "t" || err != nil && session.SQLState(err) != stateLocked {
		return l.claimed(err)
	}
	ended, err := l.value(ctx, fmt.Sprintf(end, name))
	if err != nil {
		return l.claimed(err)
	}
	if l.Log != nil && ended != "0" {
		l.Log.Info("ended sessions that an earlier connection left on the node", "node", l.node, "sessions", ended)
	}
	_, err = l.value(ctx, fmt.Sprintf(claim, name, literal))
	return l.claimed(err)
}

func (l *Link) claimed(err error) error {
	var db *session.Error
	if errors.As(err, &db) && db.SQLState == stateLocked {
		err = &session.Error{SQLState: stateLocked, Message: "the subscription's row of courier_target.progress is locked",
			Hint: fmt.Sprintf("On node %s, find who holds it: SELECT * FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start.", l.node)}
	}
	if err != nil {
		return fmt.Errorf("claim the subscription on node %s: %w", l.node, err)
	}
	return nil
}

// quote makes a literal of text without backslashes.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
