package supervise

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// DatabaseState is how a source database is; see the package's comment for the
// states.
type DatabaseState struct {
	Name          string
	State         string
	Since         time.Time
	Error         string // of the last try, "" when ready
	SQLState      string
	Hint          string
	Version       string // of the extension
	Subscriptions []SubscriptionState
	Nodes         []health.Status
}

// SubscriptionState is how a subscription is.
type SubscriptionState struct {
	Name      string
	Node      string
	State     string
	Since     time.Time
	NextRetry time.Time // zero unless retrying or stopped
	Error     string
	SQLState  string
	Hint      string
}

// condition is a state with what led to it.
type condition struct {
	state    string
	since    time.Time
	retry    time.Time
	err      string
	sqlstate string
	hint     string
}

// tracker holds a condition and logs its changes, one line each.
type tracker struct {
	log  *slog.Logger
	name string // what the lines are about: database, subscription

	mu      sync.Mutex
	current condition
}

// get returns the present condition.
func (t *tracker) get() condition {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// set enters a state. The same state with the same error is no change, except
// for the time of the next try.
func (t *tracker) set(level slog.Level, state string, err error, pause time.Duration) {
	next := condition{state: state, since: time.Now()}
	if err != nil {
		next.err, next.sqlstate, next.hint = err.Error(), ship.SQLState(err), ship.Hint(err)
	}
	if pause > 0 {
		next.retry = next.since.Add(pause)
	}
	t.mu.Lock()
	last := t.current
	if last.state == next.state {
		next.since = last.since
	}
	t.current = next
	t.mu.Unlock()
	if last.state == next.state && last.err == next.err {
		return
	}
	attributes := []slog.Attr{slog.String("state", state)}
	if err != nil {
		attributes = append(attributes, slog.String("error", next.err), slog.String("sqlstate", next.sqlstate),
			slog.String("hint", next.hint))
	}
	if pause > 0 {
		attributes = append(attributes, slog.String("retry_in", pause.Round(time.Millisecond).String()))
	}
	t.log.LogAttrs(context.Background(), level, t.name+" is "+state, attributes...)
}
