package supervise

import (
	"time"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// Database is a source database.
type Database struct {
	Name string // what people call it, in logs and metrics
	DSN  string
}

// DatabaseState says how a database is. State is one of connecting, ready, down
// (it can't be connected to), missing (no extension in it) and incompatible (one
// of another version).
type DatabaseState struct {
	Name, State           string
	Since                 time.Time
	Error, SQLState, Hint string
	Version               string
	Subscriptions         []SubscriptionState
	Nodes                 []health.Status
}

// SubscriptionState says how a subscription is. State is one of copying,
// streaming, retrying, stopped, needs_resync and standby (another shipper has
// the lease).
type SubscriptionState struct {
	Name, Node, State     string
	Since                 time.Time
	NextRetry             time.Time
	Error, SQLState, Hint string
	Lag                   time.Duration
}

// Observer is told what the loops do, from several goroutines at a time.
type Observer interface {
	Applied(database, subscription string, a ship.Applied)
	Retried(database, subscription string)
}
