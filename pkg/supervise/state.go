package supervise

import "time"

// States of a database.
const (
	DatabaseConnecting   = "connecting"
	DatabaseReady        = "ready"
	DatabaseDown         = "down"         // no connection
	DatabaseMissing      = "missing"      // no extension
	DatabaseIncompatible = "incompatible" // another version of the extension
)

// DatabaseState is what is known of a database at one moment.
type DatabaseState struct {
	Name, State string
	Since       time.Time
	Error       string
	SQLState    string
	Hint        string
	Version     string // of the extension

	Subscriptions []SubscriptionState
}

// SubscriptionState is what is known of a subscription at one moment. State is
// one of copying, streaming, retrying, stopped, needs_resync, standby.
type SubscriptionState struct {
	Name, Node, State string
	Since, NextRetry  time.Time
	Error             string
	SQLState          string
	Hint              string
	Lag               time.Duration
}
