package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chartDirectory is where the charts are, below the page.
const chartDirectory = "benchmarks"

// writeDocs writes benchmarks.md and its charts.
func (r *report) writeDocs(dir string) error {
	charts := filepath.Join(dir, chartDirectory)
	if err := os.MkdirAll(charts, 0o755); err != nil {
		return fmt.Errorf("write charts: %w", err)
	}
	for i := range scenarios {
		s := &scenarios[i]
		if s.chartless || len(r.cases(s.name)) == 0 {
			continue
		}
		chart := r.bars(s)
		if s.axis != "" {
			chart = r.curves(s)
		}
		if err := os.WriteFile(filepath.Join(charts, s.name+".svg"), []byte(chart), 0o644); err != nil {
			return fmt.Errorf("write chart: %w", err)
		}
	}
	var page strings.Builder
	r.page(&page)
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(page.String()), 0o644); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// page is benchmarks.md.
func (r *report) page(w io.Writer) {
	runs := "one run"
	if r.Runs > 1 {
		runs = fmt.Sprintf("%d runs, each of other scenarios,", r.Runs)
	}
	fmt.Fprintf(w, "# Benchmarks\n\nThis page and its charts are what %s of the bench wrote (`make bench`, flag `-docs`); edit the bench, not the page.\n\n", runs)
	fmt.Fprintf(w, "%s. %s; %s; %d CPUs (%s), %s MB of memory. Backlogs of %s rows. It took %s s.\n\n",
		r.Date, r.PostgreSQL, r.Courier, r.CPUs, r.Processor, number(float64(r.MemoryMB), 0), number(float64(r.Rows), 0), number(r.Seconds, 0))
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		list = append(list, "`"+name+" = "+r.Settings[name]+"`")
	}
	fmt.Fprintf(w, "Source and target are two servers on the same machine, a fresh pair for each system and round: %s.\n", strings.Join(list, ", "))
	fmt.Fprint(w, "Systems alternate within a round. Figures are medians of the rounds (least–most); ratios are those of the same round. "+
		"At the end of every measurement the tables of both servers are compared.\n")
	r.pageSystems(w)
	if goals := r.reachedGoals(); len(goals) > 0 {
		fmt.Fprint(w, "\n## Goals\n\n")
		writeMarkdown(w, goalTable(goals))
	}
	for i := range scenarios {
		r.pageScenario(w, &scenarios[i])
	}
}

// pageSystems says what the short names stand for, and what is missing.
func (r *report) pageSystems(w io.Writer) {
	fmt.Fprint(w, "\n| system | what it is | its own settings | part of the rows in catch-up |\n|---|---|---|---:|\n")
	for _, s := range r.Systems {
		var own []string
		if s.Preload != "" {
			own = append(own, "`shared_preload_libraries = "+s.Preload+"`")
		}
		for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
			own = append(own, "`"+name+" = "+s.Settings[name]+"`")
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", s.Name, s.Title, strings.Join(own, ", "), percent(s.Share))
	}
	fmt.Fprint(w, "\n| way to capture | what it is | part of the rows |\n|---|---|---:|\n")
	for _, s := range r.Captures {
		fmt.Fprintf(w, "| %s | %s | %s |\n", s.Name, s.Title, percent(s.Share))
	}
	for _, what := range slices.Compact(slices.Sorted(slices.Values(r.Absent))) {
		fmt.Fprintf(w, "\nLeft out: %s.\n", what)
	}
	for _, f := range r.Failures {
		first, _, _ := strings.Cut(f.Error, "\n")
		fmt.Fprintf(w, "\nFailed: %s in round %d of %s: %s\n", f.System, f.Round, f.Scenario, first)
	}
}

func percent(share float64) string { return number(share*100, 0) + " %" }

// pageScenario has a chart and the tables of a scenario's cases.
func (r *report) pageScenario(w io.Writer, s *scenario) {
	names := r.cases(s.name)
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n%s\n", s.title, s.about)
	if !s.chartless {
		fmt.Fprintf(w, "\n![%s](%s/%s.svg)\n", s.title, chartDirectory, s.name)
	}
	for _, named := range names {
		fmt.Fprintf(w, "\n### %s\n\n", strings.ToUpper(named[:1])+named[1:])
		writeMarkdown(w, r.table(s, named))
	}
}

// writeMarkdown writes a table, all columns but the first right-aligned.
func writeMarkdown(w io.Writer, table [][]string) {
	for i, row := range table {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(row)-1))
		}
	}
}
