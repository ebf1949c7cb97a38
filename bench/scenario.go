package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// scenario is one question that the bench answers.
type scenario struct {
	name  string
	title string
	about string // a paragraph: what is done, what is counted
	// standard scenarios run unless -only says otherwise.
	standard bool
	// metrics are the columns of its tables; the first is compared and drawn.
	metrics []metric
	// reference is the system that others are compared with.
	reference string
	// ours is what stands for pg_courier, if not the worker.
	ours string
	// axis names what distinguishes cases, if it is a number: lines are drawn
	// over it. Else bars are drawn for each case.
	axis string
	// chartless: it has tables only.
	chartless bool
	// systems are those that are part of it; none: all but those that lack it.
	systems []string
	run     func(b *bench, ctx context.Context) error
}

// metric is a figure of a sample.
type metric struct {
	key    string
	title  string
	unit   string
	digits int
	less   bool // is better
	// added: what it adds to the reference's figure is what counts
	added bool
}

// sample is what was measured of one system, in one case of a scenario, in one
// round.
type sample struct {
	Scenario string             `json:"scenario"`
	Case     string             `json:"case"`
	X        float64            `json:"x,omitempty"` // of the scenario's axis
	System   string             `json:"system"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
}

// failure is a measurement that came to nothing.
type failure struct {
	Scenario string `json:"scenario"`
	System   string `json:"system"`
	Round    int    `json:"round"`
	Error    string `json:"error"`
}

// bench is one run of the program.
type bench struct {
	*config
	report *report
	now    *scenario // that runs
}

// record takes in what was measured.
func (b *bench) record(s sample) {
	s.Scenario = b.now.name
	b.report.Samples = append(b.report.Samples, s)
	first := b.now.metrics[0]
	progress("%s: round %d, %s, %s: %s %s %s", b.now.name, s.Round, s.Case, s.System, first.title,
		number(s.Values[first.key], first.digits), first.unit)
}

// rounds measures things in alternation: a different one begins each round. One
// that fails is noted, and left out from then on; only the end of the bench itself
// is an error.
func rounds[T any](b *bench, ctx context.Context, first, last int, things []T, name func(T) string, measure func(thing T, round int) error) error {
	failed := make(map[string]bool)
	for round := first; round <= last; round++ {
		for i := range things {
			thing := things[(i+round)%len(things)]
			if failed[name(thing)] {
				continue
			}
			err := measure(thing, round)
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			if err != nil {
				failed[name(thing)] = true
				b.report.Failures = append(b.report.Failures, failure{b.now.name, name(thing), round, err.Error()})
				progress("%s: round %d, %s failed: %v", b.now.name, round, name(thing), err)
			}
		}
	}
	return nil
}

// systemRounds measures the chosen systems that are part of the scenario.
func (b *bench) systemRounds(ctx context.Context, n int, measure func(s *system, round int) error) error {
	var chosen []*system
	for _, s := range b.systems {
		if s.partOf(b.now.name) && (b.now.systems == nil || slices.Contains(b.now.systems, s.name)) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("%s: none of the chosen systems is part of it", b.now.name)
	}
	return rounds(b, ctx, 1, n, chosen, func(s *system) string { return s.name }, measure)
}
