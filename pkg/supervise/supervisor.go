package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// defaultDrain is how long batches in flight may take at the end.
const defaultDrain = 4 * time.Second

// Database is a source database.
type Database struct {
	Name string // for logs and metrics; unique
	DSN  string
}

// Config says what to work for, and how.
type Config struct {
	Databases []Database
	// Version is this program's; an extension of another major or minor
	// version is not worked with. Empty: any.
	Version string
	// Connections is the most sessions that ship from one database; zero means
	// two for each subscription, but no more than two thirds of what its
	// server allows.
	Connections   int
	DrainTimeout  time.Duration // zero: 4 s
	ProbeInterval time.Duration // of nodes; zero: 5 s
	Observer      Observer      // may be nil
	Log           *slog.Logger
}

// Observer is told what happens. Its methods are called from many goroutines and
// return at once.
type Observer interface {
	Applied(database, subscription string, applied ship.Applied)
	Retried(database, subscription string)
}

// Supervisor works for databases.
type Supervisor struct {
	config    Config
	databases []*database
}

// New prepares to work for the databases.
func New(config Config) *Supervisor {
	if config.DrainTimeout == 0 {
		config.DrainTimeout = defaultDrain
	}
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	s := &Supervisor{config: config}
	for _, d := range config.Databases {
		s.databases = append(s.databases, newDatabase(&s.config, d))
	}
	return s
}

// Run works until ctx is over, and returns when all is drained and closed.
func (s *Supervisor) Run(ctx context.Context) {
	abandon, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(s.config.DrainTimeout, cancel) })
	defer stop()

	var group sync.WaitGroup
	for _, d := range s.databases {
		group.Go(func() { d.run(ctx, abandon) })
	}
	group.Wait()
}

// States tells how the databases and their subscriptions are.
func (s *Supervisor) States() []DatabaseState {
	states := make([]DatabaseState, len(s.databases))
	for i, d := range s.databases {
		states[i] = d.snapshot()
	}
	return states
}

// stuckAfter is after how long without a sign of life the work for a database
// counts as stuck; everything it does is bounded by less.
const stuckAfter = time.Minute

// Live returns an error if the work for a database is stuck.
func (s *Supervisor) Live() error {
	for _, d := range s.databases {
		if silent := time.Since(time.Unix(0, d.beat.Load())); silent > stuckAfter {
			return fmt.Errorf("the work for database %s has been stuck for %s", d.name, silent.Round(time.Second))
		}
	}
	return nil
}

// nobody observes nothing.
type nobody struct{}

func (nobody) Applied(string, string, ship.Applied) {}
func (nobody) Retried(string, string)               {}
