package main

import (
	"fmt"
	"io"
	"math"
)

// goal is what pg_courier is to reach: of the scenario's first metric, unless it
// names another.
type goal struct {
	scenario, named string // named: a case
	against         string // how many times as good as this system; "": the figure itself, or what is added
	system          string // whose figure, if not what stands for pg_courier
	metric          string
	atLeast, atMost float64 // one of them
}

// reached is what became of a goal: the medians of the rounds.
type reached struct {
	goal
	value spread
	ok    bool
}

// reachedGoals lists those about which something was measured.
func (r *report) reachedGoals() []reached {
	var all []reached
	for _, g := range goals {
		s := findScenario(g.scenario)
		if s == nil {
			continue
		}
		m := &s.metrics[0]
		for i := range s.metrics {
			if s.metrics[i].key == g.metric {
				m = &s.metrics[i]
			}
		}
		if g.system == "" {
			g.system = s.own()
		}
		g.metric = m.title
		base := r.of(g.scenario, g.named, s.reference, m.key)
		figures := m.comparable(r.of(g.scenario, g.named, g.system, m.key), base)
		if g.against != "" {
			figures = byRound(figures, m.comparable(r.of(g.scenario, g.named, g.against, m.key), base), m.times)
		}
		if len(figures) == 0 {
			continue
		}
		if g.atMost == 0 {
			g.atMost = math.Inf(1)
		}
		value := spreadOf(values(figures))
		all = append(all, reached{g, value, value.Median >= g.atLeast && value.Median <= g.atMost})
	}
	return all
}

// table of goals.
func goalTable(all []reached) [][]string {
	table := [][]string{{"goal", "is to be", "is", "reached"}}
	for _, g := range all {
		what := fmt.Sprintf("%s, %s: %s of %s", g.scenario, g.named, g.metric, g.system)
		if g.against != "" {
			what = fmt.Sprintf("%s, %s: %s, %s times as good as %s", g.scenario, g.named, g.metric, g.system, g.against)
		}
		bound := "≥ " + number(g.atLeast, 2)
		if g.atLeast == 0 {
			bound = "≤ " + number(g.atMost, 2)
		}
		table = append(table, []string{what, bound, ratio(g.value), map[bool]string{true: "yes", false: "no"}[g.ok]})
	}
	return table
}

func (r *report) printGoals(w io.Writer) {
	all := r.reachedGoals()
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\nGoals, medians (min–max)\n\n")
	printTable(w, goalTable(all))
}
