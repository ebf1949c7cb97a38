package compare

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// state reads what courier.subscription_state says.
func (c *comparison) state(ctx context.Context) (state, lastError, hint string, positioned bool, err error) {
	rows, err := c.Session.Query(ctx, `SELECT t.state, t.last_error, t.last_error_hint, t.position IS NOT NULL
		FROM courier.subscription_state t WHERE t.subscription_id = $1::pg_catalog.int4`, strconv.Itoa(c.sub.ID))
	if err != nil {
		return "", "", "", false, fmt.Errorf("read the state of subscription %s: %w", c.Subscription, err)
	}
	if len(rows) == 0 {
		return "streaming", "", "", true, nil
	}
	return string(rows[0][0]), string(rows[0][1]), string(rows[0][2]), string(rows[0][3]) == "t", nil
}

// requireStreaming refuses a subscription whose node can't be compared with the
// source yet, or any more.
func (c *comparison) requireStreaming(ctx context.Context) error {
	state, lastError, hint, positioned, err := c.state(ctx)
	switch {
	case err != nil:
		return err
	case state == "copying" || !positioned:
		return &session.Error{SQLState: "55000", Message: fmt.Sprintf("the rows there are have not been copied yet by subscription %q", c.Subscription),
			Hint: fmt.Sprintf("Wait with SELECT courier.wait_for_subscription('%s').", c.Subscription)}
	case state == "stopped" || state == "needs_resync":
		what := "has stopped"
		if state == "needs_resync" {
			what = "needs a resync"
		}
		if hint == "" {
			hint = "See courier.subscription_status."
		}
		return &session.Error{SQLState: "55000", Message: fmt.Sprintf("subscription %q %s", c.Subscription, what), Detail: lastError, Hint: hint}
	}
	return nil
}

// longestPause is between two questions for the node's progress.
const longestPause = 200 * time.Millisecond

// standardUnshipped is how long a subscription may be shipped by nobody, such as while
// a process takes over from another, before that is an error.
const standardUnshipped = 30 * time.Second

// isShipped says whether a process holds the subscription's lease.
func (c *comparison) isShipped(ctx context.Context) (bool, error) {
	held, _, err := session.Value(ctx, c.Session, `SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
		WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.mode = 'ExclusiveLock'
		  AND l.classid = 'courier.subscription'::pg_catalog.regclass AND l.objid = $1::pg_catalog.oid
		  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))`,
		strconv.Itoa(c.sub.ID))
	if err != nil {
		return false, fmt.Errorf("look for who ships: %w", err)
	}
	return held == "t", nil
}

// catchUp waits until the node has applied everything that the source has shown
// so far.
func (c *comparison) catchUp(ctx context.Context) error {
	position, _, err := session.Value(ctx, c.Session, "SELECT courier.position()")
	if err != nil {
		return fmt.Errorf("take the source's position: %w", err)
	}
	began, shipped := time.Now(), time.Now()
	pause := 2 * time.Millisecond
	for {
		rows, err := c.target.link.Query(ctx, "SELECT position FROM courier_target.progress WHERE subscription = "+literal(c.sub.ProgressKey), 1)
		if err != nil {
			return withHint(fmt.Errorf("read the node's progress: %w", err), "Ship the subscription once: SELECT courier.ship(...).")
		}
		if len(rows) == 1 {
			applied, _, err := session.Value(ctx, c.Session, "SELECT courier.is_applied($1, $2::pg_catalog.pg_snapshot)", string(rows[0][0]), position)
			if err != nil {
				return fmt.Errorf("look at the node's progress: %w", err)
			}
			if applied == "t" {
				return nil
			}
		}
		if err := c.requireStreaming(ctx); err != nil {
			return err
		}
		if pause == longestPause {
			held, err := c.isShipped(ctx)
			switch {
			case err != nil:
				return err
			case held:
				shipped = time.Now()
			case time.Since(shipped) > c.Unshipped:
				return &session.Error{SQLState: "55000", Message: fmt.Sprintf("nobody ships subscription %q", c.Subscription),
					Detail: "The node has not applied yet what the source has committed.",
					Hint:   fmt.Sprintf("Start courier run, or SELECT courier.ship('%s'), and run it again.", c.Subscription)}
			}
		}
		if time.Since(began) > c.Timeout {
			return &session.Error{SQLState: "55000",
				Message: fmt.Sprintf("node %s has not applied in %s what the source had committed", c.sub.Node, c.Timeout),
				Hint:    fmt.Sprintf("See SELECT * FROM courier.subscription_status. SELECT courier.ship('%s') says what keeps it.", c.Subscription)}
		}
		if _, err := c.Session.Query(ctx, "SELECT pg_catalog.pg_sleep($1::pg_catalog.float8)", strconv.FormatFloat(pause.Seconds(), 'f', 4, 64)); err != nil {
			return fmt.Errorf("wait for the node: %w", err)
		}
		pause = min(pause*3/2, longestPause)
	}
}
