package health

import "time"

// State is how a node is.
type State string

// States of a node; see the package's comment.
const (
	Unknown  State = "unknown"
	Up       State = "up"
	Degraded State = "degraded"
	Down     State = "down"
)

// Status is what is known of a node.
type Status struct {
	Node     string
	State    State
	Since    time.Time // when it came into this state
	Reason   string    // for a person: why it is not up, and what to do; may name hosts
	SQLState string    // of the reason, "" if it has none

	// Definition says how the node is reached; it means nothing but changes with
	// the options of its server and user mapping.
	Definition string

	// As last measured. ServerVersion is empty before the first answer.
	Latency         time.Duration // median of the last five round trips
	ServerVersion   string
	InRecovery      bool
	ReadOnly        bool
	ClockOffset     time.Duration // how far its clock is ahead of the source's
	ConnectionsLeft int           // -1: not known

	ProbedAt  time.Time
	NextProbe time.Time
}
