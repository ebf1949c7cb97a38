package main

import (
	"fmt"
	"slices"
	"strings"
)

// line is a system in a case: its figures, and how it compares by the first.
type line struct {
	system  string
	figures []string // of the scenario's metrics, as text
	to      spread   // how many times as good as the reference it is; or what it adds to it
	ours    spread   // how many times as good pg_courier is
}

// of collects a figure of a system in a case, by round.
func (r *report) of(scenario, named, system, key string) map[int]float64 {
	byRound := make(map[int]float64)
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Scenario != scenario || s.Case != named || s.System != system {
			continue
		}
		if value, ok := s.Values[key]; ok {
			byRound[s.Round] = value
		}
	}
	return byRound
}

// cases of a scenario, in the order they were met.
func (r *report) cases(scenario string) []string {
	var names []string
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && !slices.Contains(names, s.Case) {
			names = append(names, s.Case)
		}
	}
	return names
}

// systemsOf are the systems measured in a scenario, in the order of the tables
// of this program; those it does not know come last.
func (r *report) systemsOf(scenario string) []string {
	var names []string
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && !slices.Contains(names, s.System) {
			names = append(names, s.System)
		}
	}
	order := systemNames()
	if findScenario(scenario).ours == ownCapture {
		order = captureNames()
	}
	rank := func(name string) int {
		if name == findScenario(scenario).reference {
			return -1
		}
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// x is the place of a case on the scenario's axis.
func (r *report) x(scenario, named string) float64 {
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && s.Case == named {
			return s.X
		}
	}
	return 0
}

// lines compares the systems in a case.
func (r *report) lines(s *scenario, named string) []line {
	first := &s.metrics[0]
	figures := func(system string) map[int]float64 { return r.of(s.name, named, system, first.key) }
	base := figures(s.reference)
	own := first.comparable(figures(s.own()), base)
	var all []line
	for _, system := range r.systemsOf(s.name) {
		byRound := figures(system)
		if len(byRound) == 0 {
			continue
		}
		l := line{system: system}
		for i, m := range s.metrics {
			l.figures = append(l.figures, r.figure(s.name, named, system, m, i == 0))
		}
		compared := first.comparable(byRound, base)
		switch {
		case system == s.reference:
		case first.added:
			l.to = spreadOf(values(compared))
		default:
			l.to = spreadOf(paired(compared, base, first.times))
		}
		if system != s.own() && !(first.added && system == s.reference) {
			l.ours = spreadOf(paired(own, compared, first.times))
		}
		all = append(all, l)
	}
	return all
}

// times is how many times as good a is as b.
func (m *metric) times(a, b float64) float64 {
	if m.less {
		return b / a
	}
	return a / b
}

// comparable turns figures into what is compared of them.
func (m *metric) comparable(figures, base map[int]float64) map[int]float64 {
	if !m.added {
		return figures
	}
	added := make(map[int]float64)
	for round, value := range figures {
		if other, ok := base[round]; ok {
			added[round] = value - other
		}
	}
	return added
}

// own is what stands for pg_courier in a scenario.
func (s *scenario) own() string {
	if s.ours != "" {
		return s.ours
	}
	return ours
}

// figure is a metric's median, and its spread if asked for.
func (r *report) figure(scenario, named, system string, m metric, spread bool) string {
	byRound := r.of(scenario, named, system, m.key)
	if len(byRound) == 0 {
		return ""
	}
	s := spreadOf(values(byRound))
	if !spread || len(byRound) == 1 {
		return number(s.Median, m.digits)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median, m.digits), number(s.Min, m.digits), number(s.Max, m.digits))
}

// columns are the headings of a scenario's tables, and which of its metrics they
// show: one that nobody has a figure of is left out.
func (r *report) columns(s *scenario, named string) (headings []string, shown []int) {
	for i, m := range s.metrics {
		if slices.ContainsFunc(r.systemsOf(s.name), func(system string) bool {
			return len(r.of(s.name, named, system, m.key)) > 0
		}) {
			headings = append(headings, m.heading())
			shown = append(shown, i)
		}
	}
	return headings, shown
}

func (m *metric) heading() string {
	if m.unit == "" {
		return m.title
	}
	return m.title + ", " + m.unit
}

// ratio is a spread of ratios as text.
func ratio(s spread) string {
	if s == (spread{}) {
		return ""
	}
	if s.Min == s.Max {
		return number(s.Median, 2)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median, 2), number(s.Min, 2), number(s.Max, 2))
}

// number prints a figure with so many digits behind the point, and spaces between
// the thousands.
func number(value float64, digits int) string {
	text := fmt.Sprintf("%.*f", digits, value)
	whole, rest, point := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if point {
		whole += "." + rest
	}
	return sign + whole
}
