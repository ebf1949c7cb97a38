// Package status tells people how the subscriptions of some source databases
// are doing: it reads the extension's views and lays them out. It asks the
// databases themselves, not a running `courier run`, so it also tells the truth
// when none runs. A role that is a member of pg_monitor is enough.
//
// It is imported by sidecar.
package status

import "time"

// Report is what `courier status --json` prints. Times are those of the
// database's clock; a value that is not known is null or left out.
type Report struct {
	Databases []Database `json:"databases"`
}

// Database is a source database. With Error set nothing but Name is known.
type Database struct {
	Name          string         `json:"database"`
	Error         *Error         `json:"error,omitempty"`
	ReadAt        time.Time      `json:"read_at,omitzero"`
	Version       string         `json:"extension_version,omitempty"`
	Queue         *Queue         `json:"queue,omitempty"`
	Subscriptions []Subscription `json:"subscriptions"`
	Copies        []Copy         `json:"copies,omitempty"` // tables that are yet to be copied
	Nodes         []Node         `json:"nodes"`
}

// Error is an error with what to do about it. Only administrators and members
// of pg_monitor see the last error of a subscription.
type Error struct {
	Message  string `json:"message,omitempty"`
	SQLState string `json:"sqlstate,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Queue is what captured changes take on disk, indexes included, shipped or not.
type Queue struct {
	Bytes int64 `json:"bytes"`
}

// Subscription is a row of courier.subscription_status.
type Subscription struct {
	Name           string     `json:"subscription"`
	Node           string     `json:"node"`
	State          string     `json:"state"`
	LagSeconds     *float64   `json:"lag_seconds"` // age of the oldest change not passed yet
	LagBytes       *int64     `json:"lag_bytes"`
	PendingChanges *int64     `json:"pending_changes"`
	Shipped        int64      `json:"shipped"`
	Shipper        string     `json:"shipper"` // who shipped last: sidecar, worker, session; "" for nobody
	LastError      *Error     `json:"last_error"`
	NextRetryAt    *time.Time `json:"next_retry_at"`
	UpdatedAt      *time.Time `json:"updated_at"`
}

// Node is a row of courier.node_status. State and what follows are null until
// the node has been probed.
type Node struct {
	Name               string     `json:"node"`
	Server             string     `json:"server"`
	Subscriptions      int        `json:"subscriptions"`
	Shipping           int        `json:"shipping"`
	Retrying           int        `json:"retrying"`
	Stopped            int        `json:"stopped"`
	State              *string    `json:"state"`
	Since              *time.Time `json:"since"`
	Reason             *string    `json:"reason"`
	LatencySeconds     *float64   `json:"latency_seconds"`
	ServerVersion      *string    `json:"server_version"`
	ClockOffsetSeconds *float64   `json:"clock_offset_seconds"`
	ConnectionsLeft    *int       `json:"connections_left"`
}

// States in which a subscription waits for something: a node or a person.
var troubled = map[string]bool{"retrying": true, "stopped": true, "needs_resync": true}

// Exit codes of `courier status`.
const (
	AllWell     = 0
	Trouble     = 1 // a subscription is retrying, stopped or needs_resync, or a node is down
	Unreachable = 2 // a database could not be read
)

// ExitCode says how it all looks, by the worst there is.
func (r *Report) ExitCode() int {
	code := AllWell
	for i := range r.Databases {
		code = max(code, r.Databases[i].exitCode())
	}
	return code
}

func (d *Database) exitCode() int {
	if d.Error != nil {
		return Unreachable
	}
	for i := range d.Subscriptions {
		if troubled[d.Subscriptions[i].State] {
			return Trouble
		}
	}
	for i := range d.Nodes {
		if state := d.Nodes[i].State; state != nil && *state == "down" {
			return Trouble
		}
	}
	return AllWell
}
