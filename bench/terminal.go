package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// printScenario prints a table for each case of a scenario.
func (r *report) printScenario(w io.Writer, s *scenario) {
	names := r.cases(s.name)
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s: medians (min–max), ratios within a round\n", s.title)
	for _, named := range names {
		fmt.Fprintf(w, "\n%s\n\n", named)
		printTable(w, r.table(s, named))
	}
}

// table has a line of headings, and one for each system.
func (r *report) table(s *scenario, named string) [][]string {
	headings, shown := r.columns(s, named)
	head := append([]string{""}, headings[:1]...)
	compared := s.reference != ""
	if compared {
		head = append(head, s.toHeading(), s.own()+": times as good")
	}
	table := [][]string{append(head, headings[1:]...)}
	for _, l := range r.lines(s, named) {
		row := []string{l.system, l.figures[shown[0]]}
		if compared {
			row = append(row, ratio(l.to), ratio(l.ours))
		}
		for _, i := range shown[1:] {
			row = append(row, l.figures[i])
		}
		table = append(table, row)
	}
	return table
}

// toHeading names the column of the comparison with the reference.
func (s *scenario) toHeading() string {
	if s.metrics[0].added {
		return "added"
	}
	return "times as good as " + s.reference
}

// printTable prints columns, all but the first right-aligned.
func printTable(w io.Writer, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, row := range table {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range table {
		var b strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + padding)
			} else {
				b.WriteString("  " + padding + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
