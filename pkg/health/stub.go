// Package health is a placeholder.
package health

import (
	"context"
	"log/slog"
	"time"
)

type State string

const (
	Up       State = "up"
	Degraded State = "degraded"
	Down     State = "down"
	Unknown  State = "unknown"
)

type Status struct {
	Node                 string
	State                State
	Since                time.Time
	Reason               string
	Latency              time.Duration
	ServerVersion        string
	InRecovery, ReadOnly bool
	ClockOffset          time.Duration
	ConnectionsLeft      int
	ProbedAt, NextProbe  time.Time
	SQLState             string
}

type Config struct {
	DSN      string
	Interval time.Duration
	Log      *slog.Logger
}

type Prober struct{}

func New(Config) *Prober                                { return &Prober{} }
func (*Prober) Run(ctx context.Context)                 { <-ctx.Done() }
func (*Prober) Status(string) (Status, <-chan struct{}) { return Status{State: Unknown}, nil }
func (*Prober) All() []Status                           { return nil }
func (*Prober) Suspect(string)                          {}
