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

// newSupervisor is the one place where settings become the supervisor's.
func newSupervisor(settings *config.Config, log *slog.Logger) supervisor {
	s := &plainSupervisor{config: supervise.Config{Log: log}}
	for _, d := range settings.Databases {
		s.config.Databases = append(s.config.Databases, d.DSN)
		s.names = append(s.names, d.Name)
	}
	return s
}

// plainSupervisor stands in front of supervise.Run, which has no states and no
// bounds of its own.
type plainSupervisor struct {
	config supervise.Config
	names  []string
}

func (s *plainSupervisor) Run(ctx context.Context) { supervise.Run(ctx, s.config) }

func (s *plainSupervisor) States() []supervise.DatabaseState {
	states := make([]supervise.DatabaseState, len(s.names))
	for i, name := range s.names {
		states[i] = supervise.DatabaseState{Name: name, State: supervise.DatabaseReady}
	}
	return states
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
