package dblink

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// bounds say when a link is looked into, and when it is given up.
type bounds struct {
	connect time.Duration // to connect, name lookup aside
	look    time.Duration // a wait after which the node is asked what it does
	silence time.Duration // without a byte, and without the node working
}

// usual gives up a half-open link after 10 to 15 seconds.
var usual = bounds{connect: 5 * time.Second, look: 5 * time.Second, silence: 10 * time.Second}

// longestLook is between two looks at a node that is known to work.
const longestLook = 15 * time.Second

// longestPoll bounds a query that waits. Each holds a snapshot for as long as it
// runs, and nothing that was deleted meanwhile can be vacuumed on the source: so
// the wait for a node that works for minutes is many queries.
const longestPoll = time.Second

// Bytes a second. A command that the network's own buffers may still hold,
// a proxy's for example, is left the time it needs at that pace.
const (
	unknownPace = 50 << 10
	slowestPace = 4 << 10
	// Shorter commands say nothing about the network.
	telling = 64 << 10
)

// waitColumns are the first columns of a poll: ready, for how long no byte has
// moved, bytes the other side has not taken.
const waitColumns = 3

const connectionFailure = "08006"

// await polls until what was sent is done, and returns the last poll's row. The
// longer nothing is heard, the more closely the node is looked at:
//
//	bytes move                 wait on, however slowly
//	backend works or is blocked  wait on; statement_timeout there bounds it
//	backend is idle            it has not got the command, or its answer is lost:
//	                           given up when the silence has lasted long enough
//	backend is gone            given up
//	node can't be reached      given up when the silence has lasted long enough
func (l *Link) await(ctx context.Context, poll string) (session.Row, error) {
	look := l.bounds.look
	for {
		row, err := l.pollFor(ctx, poll, look)
		if err != nil {
			return nil, err
		}
		if string(row[0]) == "t" {
			l.measure()
			return row, nil
		}
		ms, err := strconv.Atoi(string(row[1]))
		if err != nil {
			return nil, err
		}
		silent := time.Duration(ms) * time.Millisecond
		if silent < l.bounds.look/2 {
			look = l.bounds.look
			continue
		}
		seen := sight{state: unreachable}
		if l.pid != "" { // else there is nothing to ask for yet
			if seen, err = l.examine(ctx); err != nil {
				return nil, err
			}
		}
		if l.Log != nil {
			l.Log.Debug("waiting for a node", "node", l.node, "backend", seen.state.String(), "pid", l.pid,
				"wait_event", seen.event, "blocked_by", seen.blockers, "lock", seen.lock,
				"silent", silent.Round(time.Millisecond).String())
		}
		patience := l.bounds.silence
		switch seen.state {
		case working:
			look = min(2*look, max(longestLook, l.bounds.look))
			continue
		case gone:
			patience = 0
		case idle:
			if string(row[2]) == "0" { // else the other side takes nothing
				patience += l.allowance()
			}
		}
		if silent >= patience {
			// what came meanwhile is not thrown away
			rows, err := l.session.Query(ctx, poll, l.name, "0")
			if err != nil {
				return nil, err
			}
			if string(rows[0][0]) == "t" {
				return rows[0], nil
			}
			return nil, l.giveUp(ctx, seen, silent)
		}
		look = min(l.bounds.look, max(patience-silent, l.bounds.look/8))
	}
}

// pollFor polls until what was sent is done, or a time is over, and returns the
// last poll's row.
func (l *Link) pollFor(ctx context.Context, poll string, patience time.Duration) (session.Row, error) {
	for {
		once := min(patience, longestPoll)
		rows, err := l.session.Query(ctx, poll, l.name, milliseconds(once))
		if err != nil {
			return nil, err
		}
		if patience -= once; patience <= 0 || string(rows[0][0]) == "t" {
			return rows[0], nil
		}
	}
}

// measure learns how fast commands are taken, execution included: quickly when
// they get slower, slowly when they get faster.
func (l *Link) measure() {
	if l.sent < telling {
		return
	}
	pace := float64(l.sent) / max(time.Since(l.sentAt).Seconds(), 1e-6)
	if l.pace == 0 || pace < l.pace {
		l.pace = pace
	} else {
		l.pace += (pace - l.pace) / 8
	}
}

// allowance is how long the command in flight may be on its way unseen.
func (l *Link) allowance() time.Duration {
	if l.pace == 0 {
		return allowance(l.sent, unknownPace)
	}
	return allowance(l.sent, l.pace/4)
}

func allowance(bytes int, pace float64) time.Duration {
	return time.Duration(float64(bytes) / pace * float64(time.Second))
}

// giveUp closes the connection, and says why.
func (l *Link) giveUp(ctx context.Context, seen sight, silent time.Duration) error {
	if err := l.Close(ctx); err != nil {
		return err
	}
	return l.lost(seen.state.String(), silent, seen.reason)
}

// lost is the error of a link whose other end is out of reach.
func (l *Link) lost(what string, silent time.Duration, detail string) error {
	return &session.Error{
		SQLState: connectionFailure,
		Message: fmt.Sprintf("nothing was heard of node %s for %s; %s",
			l.node, silent.Round(100*time.Millisecond), what),
		Detail: detail,
		Hint: fmt.Sprintf("The connection was given up, and a new one is made; what was under way is found out there. "+
			"If it comes again, look at the network between the two servers and at the node: SELECT * FROM courier.ping('%s').", l.node),
	}
}
