package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/config"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// supervisor is what the process needs of pkg/supervise.
type supervisor interface {
	// Run works until ctx is over and batches in flight are done or given up.
	Run(ctx context.Context)
	// States answers at once, unless the supervisor hangs.
	States() []supervise.DatabaseState
}

// sources are the databases to work for.
func sources(settings *config.Config) []supervise.Database {
	var databases []supervise.Database
	for _, d := range settings.Databases {
		databases = append(databases, supervise.Database{Name: d.Name, DSN: d.DSN})
	}
	return databases
}

// newSupervisor is the one place where settings become the supervisor's.
func newSupervisor(settings *config.Config, databases []supervise.Database, observer supervise.Observer, log *slog.Logger) *supervise.Supervisor {
	return supervise.New(supervise.Config{
		Databases:     databases,
		Version:       version,
		Connections:   settings.MaxConnections,
		DrainTimeout:  settings.DrainTimeout,
		ProbeInterval: settings.ProbeInterval,
		Observer:      observer,
		Log:           log,
	})
}

// summary is one line for an operator: how many databases and subscriptions
// there are, and in which states.
func summary(databases []supervise.DatabaseState) string {
	var ofDatabases, ofSubscriptions []string
	for _, d := range databases {
		ofDatabases = append(ofDatabases, d.State)
		for _, s := range d.Subscriptions {
			ofSubscriptions = append(ofSubscriptions, s.State)
		}
	}
	return "databases: " + count(ofDatabases) + "; subscriptions: " + count(ofSubscriptions)
}

// count is like "2 retrying, 5 streaming".
func count(states []string) string {
	if len(states) == 0 {
		return "none"
	}
	slices.Sort(states)
	var parts []string
	for len(states) > 0 {
		state := states[0]
		n := 0
		for n < len(states) && states[n] == state {
			n++
		}
		parts = append(parts, fmt.Sprintf("%d %s", n, state))
		states = states[n:]
	}
	return strings.Join(parts, ", ")
}
