package health_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	fine := health.Measurement{Latency: time.Millisecond, ConnectionsLeft: 50, ConnectionLimit: 97}
	with := func(change func(*health.Measurement)) health.Measurement {
		m := fine
		change(&m)
		return m
	}
	cases := map[string]struct {
		measured health.Measurement
		state    health.State
		sqlstate string
		reason   string
	}{
		"fine":    {fine, health.Up, "", ""},
		"standby": {with(func(m *health.Measurement) { m.InRecovery, m.ReadOnly = true, true }), health.Degraded, "25006", "is a standby"},
		"read-only": {with(func(m *health.Measurement) { m.ReadOnly = true }),
			health.Up, "", ""},
		"four connections": {with(func(m *health.Measurement) { m.ConnectionsLeft, m.ConnectionLimit = 4, 20 }),
			health.Degraded, "53300", "4 of 20 connections left"},
		"five connections of twenty": {with(func(m *health.Measurement) { m.ConnectionsLeft, m.ConnectionLimit = 5, 20 }), health.Up, "", ""},
		"nine of a hundred":          {with(func(m *health.Measurement) { m.ConnectionsLeft, m.ConnectionLimit = 9, 100 }), health.Degraded, "53300", "max_connections"},
		"ten of a hundred":           {with(func(m *health.Measurement) { m.ConnectionsLeft, m.ConnectionLimit = 10, 100 }), health.Up, "", ""},
		"connections not known":      {with(func(m *health.Measurement) { m.ConnectionsLeft = -1 }), health.Up, "", ""},
		"slow":                       {with(func(m *health.Measurement) { m.Latency = 1100 * time.Millisecond }), health.Degraded, "", "takes 1.1s"},
		"a second is not slow":       {with(func(m *health.Measurement) { m.Latency = time.Second }), health.Up, "", ""},
		"clock ahead":                {with(func(m *health.Measurement) { m.ClockOffset = 90 * time.Second }), health.Degraded, "", "1m30s ahead of"},
		"clock behind":               {with(func(m *health.Measurement) { m.ClockOffset = -1500 * time.Millisecond }), health.Degraded, "", "1.5s behind"},
		"clock within the error of a slow link": {with(func(m *health.Measurement) {
			m.ClockOffset, m.Latency = 1200*time.Millisecond, 900*time.Millisecond
		}), health.Up, "", ""},
		"disk full a moment ago": {with(func(m *health.Measurement) { m.DiskFull, m.DiskFullFor = true, 59*time.Second }),
			health.Degraded, "53100", "disk of the node is full"},
		"disk full a minute ago": {with(func(m *health.Measurement) { m.DiskFull, m.DiskFullFor = true, time.Minute }), health.Up, "", ""},
		"the gravest gives the SQLSTATE": {with(func(m *health.Measurement) {
			m.DiskFull, m.InRecovery, m.Latency = true, true, 2*time.Second
		}), health.Degraded, "53100", "standby"},
	}
	for name, c := range cases {
		v := health.Judge(c.measured)
		require.Equal(t, c.state, v.State, name)
		require.Equal(t, c.sqlstate, v.SQLState, name)
		require.Contains(t, v.Reason, c.reason, name)
		require.Equal(t, v.State == health.Up, v.Reason == "", name)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err    session.Error
		reason string
	}{
		"words of libpq": {session.Error{SQLState: "08001", Message: "could not establish connection",
			Detail: "connection to server at \"h\", port 1 failed: Connection refused\n\tIs the server running?\n"},
			`connection to server at "h", port 1 failed: Connection refused Is the server running?. See that the server runs, ` +
				`that the network lets us through, and that host and port are right: ALTER SERVER "a""b" OPTIONS (SET host ...).`},
		"password": {session.Error{SQLState: "28P01", Message: "FATAL: no."},
			`FATAL: no. Set user and password right with ALTER USER MAPPING FOR PUBLIC SERVER "a""b" OPTIONS (SET password ...).`},
		"starting": {session.Error{SQLState: "57P03", Message: "the database system is starting up"},
			"the database system is starting up. The server is going down or coming up; this passes by itself."},
	}
	for name, c := range cases {
		v := health.Refusal(&c.err, `a"b`)
		require.Equal(t, health.Verdict{State: health.Down, SQLState: c.err.SQLState, Reason: c.reason}, v, name)
	}
}
