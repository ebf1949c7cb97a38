// Package health says how the nodes of a database are.
package health

import "time"

// State is the short form of a Status.
type State string

// The states of a node.
const (
	Up       State = "up"
	Degraded State = "degraded" // it works, and something needs attention
	Down     State = "down"
	Unknown  State = "unknown" // not probed yet
)

// Status is what the last probe of a node found.
type Status struct {
	Node                 string
	State                State
	Since                time.Time
	Reason               string // one sentence for a person
	Latency              time.Duration
	ServerVersion        string
	InRecovery, ReadOnly bool
	ClockOffset          time.Duration
	ConnectionsLeft      int
	ProbedAt, NextProbe  time.Time
	SQLState             string
}
