package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// From here on a node is degraded.
const (
	fewConnections   = 5
	fewPercent       = 10
	highLatency      = time.Second
	highClockOffset  = time.Second
	diskFullRemember = time.Minute
)

// Measurement is what probes have found out about a node that answers.
type Measurement struct {
	Latency         time.Duration
	InRecovery      bool
	ReadOnly        bool
	ClockOffset     time.Duration
	ConnectionsLeft int // -1: not known
	ConnectionLimit int // those that ordinary roles may open in all
	DiskFullFor     time.Duration
	DiskFull        bool // reported by a shipper, DiskFullFor ago
}

// Verdict is a state with its reason.
type Verdict struct {
	State    State
	SQLState string // of the gravest reason, "" if it has none
	Reason   string
}

// Judge says how a node that answers is. Reasons come gravest first.
func Judge(m Measurement) Verdict {
	var reasons []string
	state := ""
	because := func(sqlstate, format string, args ...any) {
		if len(reasons) == 0 {
			state = sqlstate
		}
		reasons = append(reasons, fmt.Sprintf(format, args...))
	}
	if m.DiskFull && m.DiskFullFor < diskFullRemember {
		because("53100", "A disk of the node is full; free space there, shipping then goes on by itself.")
	}
	if m.InRecovery {
		because("25006", "The node is a standby, which takes no changes; promote it, or let its foreign server name the primary.")
	}
	if m.ConnectionsLeft >= 0 &&
		(m.ConnectionsLeft < fewConnections || m.ConnectionsLeft*100 < m.ConnectionLimit*fewPercent) {
		because("53300", "The node has %d of %d connections left; end idle sessions or raise max_connections there.",
			m.ConnectionsLeft, m.ConnectionLimit)
	}
	if m.Latency > highLatency {
		because("", "An answer of the node takes %s; look at its load and at the network.", round(m.Latency))
	}
	// The answer was made at some moment of the round trip: half of it is
	// the error of the offset.
	if offset := m.ClockOffset.Abs(); offset-m.Latency/2 > highClockOffset {
		direction := "ahead of"
		if m.ClockOffset < 0 {
			direction = "behind"
		}
		because("", "The clock of the node is %s %s the source's; synchronize both with NTP.", round(offset), direction)
	}
	if len(reasons) == 0 {
		return Verdict{State: Up}
	}
	return Verdict{State: Degraded, SQLState: state, Reason: strings.Join(reasons, " ")}
}

// Refusal is the verdict on a node that cannot be connected to or gives no
// answer. libpq's words name hosts, databases and roles, never a password.
func Refusal(e *session.Error, server string) Verdict {
	words := e.Message
	if e.Detail != "" { // dblink puts libpq's there
		words = e.Detail
	}
	words = strings.TrimRight(strings.Join(strings.Fields(words), " "), ".")
	return Verdict{State: Down, SQLState: e.SQLState, Reason: words + ". " + remedy(e.SQLState, server)}
}

// remedy says what to do about a refusal.
func remedy(sqlstate, server string) string {
	server = `"` + strings.ReplaceAll(server, `"`, `""`) + `"`
	switch sqlstate {
	case "28P01":
		return "Set user and password right with ALTER USER MAPPING FOR PUBLIC SERVER " + server + " OPTIONS (SET password ...)."
	case "28000":
		return "Let the role in: it must exist with LOGIN, and pg_hba.conf of the node must have a line for it."
	case "3D000":
		return "Create the database, or name another with ALTER SERVER " + server + " OPTIONS (SET dbname ...)."
	case "2F003":
		return "Let pg_hba.conf of the node ask for a password, and set one in the user mapping of server " + server + "."
	case "42704":
		return "Make the server and its user mapping, or drop the node and create it again."
	case "42501":
		return "Let the role that runs the sidecar use it: GRANT USAGE ON FOREIGN SERVER " + server + " TO ...."
	case "53300":
		return "End idle sessions of the node or raise its max_connections, or the limit of the role or database."
	case "57P01", "57P02", "57P03":
		return "The server is going down or coming up; this passes by itself."
	case "57014":
		return "Look at the load of the node."
	}
	return "See that the server runs, that the network lets us through, and that host and port are right: ALTER SERVER " +
		server + " OPTIONS (SET host ...)."
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	if d >= 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}
