package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGoalsAreAboutSomething: a goal whose scenario, case or peer is misspelt would
// never be looked at.
func TestGoalsAreAboutSomething(t *testing.T) {
	for _, g := range goals {
		s := findScenario(g.scenario)
		require.NotNil(t, s, "%+v", g)
		require.True(t, (g.atLeast == 0) != (g.atMost == 0), "%+v", g)
		names := append(append(systemNames(), captureNames()...), commitPeers[0].name, comparisonPeers[0].name, "")
		require.Contains(t, names, g.against)
		if g.metric != "" {
			require.True(t, containsMetric(s.metrics, g.metric), "%+v", g)
		}
		if s.name == "catchup" {
			require.True(t, containsWorkload(g.named), "%+v", g)
		}
		if s.name == "capture" {
			require.Contains(t, []string{captureStatements[0].name, captureStatements[1].name}, g.named)
		}
	}
}

func containsMetric(metrics []metric, key string) bool {
	for _, m := range metrics {
		if m.key == key {
			return true
		}
	}
	return false
}

func containsWorkload(title string) bool {
	for _, w := range workloads {
		if w.title == title {
			return true
		}
	}
	return false
}

func TestScenariosAndSystemsAreNamedOnce(t *testing.T) {
	for _, names := range [][]string{scenarioNames(), systemNames(), captureNames()} {
		seen := make(map[string]bool)
		for _, name := range names {
			require.False(t, seen[name], name)
			seen[name] = true
		}
	}
	for _, s := range scenarios {
		for _, name := range s.systems {
			require.Contains(t, systemNames(), name)
		}
	}
}

// TestContentsAreThoseOfTheRow: an alias that a column bears would stand for that
// column alone.
func TestContentsAreThoseOfTheRow(t *testing.T) {
	for _, table := range []*table{accounts, indexed, customers, orders, items, wide, mixed} {
		require.NotContains(t, strings.FieldsFunc(table.columns, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' }), wholeRow, table.name)
	}
}

// measured is a report of two rounds in which pg_courier is 2 and 4 times as fast,
// and its p50 half as long.
func measured() *report {
	r := &report{Date: "2026-01-02", PostgreSQL: "postgres 15", Systems: []named{{Name: reference, Title: "it", Share: 1}}}
	add := func(scenario, named, system string, round int, key string, value float64) {
		r.Samples = append(r.Samples, sample{Scenario: scenario, Case: named, System: system, Round: round, Values: map[string]float64{key: value}})
	}
	add("catchup", workloads[0].title, reference, 1, "rate", 1000)
	add("catchup", workloads[0].title, ours, 1, "rate", 2000)
	add("catchup", workloads[0].title, reference, 2, "rate", 1500)
	add("catchup", workloads[0].title, ours, 2, "rate", 6000)
	add("latency", "200 transactions/s", reference, 1, "p50", 0.5)
	add("latency", "200 transactions/s", ours, 1, "p50", 0.25)
	add("capture", "insert", uncaptured, 1, "wall", 2)
	add("capture", "insert", ownCapture, 1, "wall", 3)
	add("capture", "insert", "pgq", 1, "wall", 12)
	return r
}

func TestRatiosAreThoseOfARound(t *testing.T) {
	r := measured()
	lines := r.lines(findScenario("catchup"), workloads[0].title)
	require.Len(t, lines, 2)
	require.Equal(t, reference, lines[0].system)
	require.Equal(t, spread{}, lines[0].to)
	require.Equal(t, spread{Median: 3, Min: 2, Max: 4}, lines[0].ours)
	require.Equal(t, "4 000 (2 000–6 000)", lines[1].figures[0])
	require.Equal(t, spread{Median: 3, Min: 2, Max: 4}, lines[1].to)

	// Less is better: half the time is twice as good.
	lines = r.lines(findScenario("latency"), "200 transactions/s")
	require.Equal(t, 2.0, lines[1].to.Median)

	// What is added is compared, not the whole.
	lines = r.lines(findScenario("capture"), "insert")
	require.Equal(t, "pgq", lines[2].system)
	require.Equal(t, 10.0, lines[2].to.Median)
	require.Equal(t, 10.0, lines[2].ours.Median)
}

func TestGoalsAreReachedOrNot(t *testing.T) {
	reached := make(map[string]bool)
	for _, g := range measured().reachedGoals() {
		reached[g.scenario+" "+g.against] = g.ok
	}
	require.Equal(t, map[string]bool{"catchup " + reference: true, "latency " + reference: true, "capture ": true, "capture pgq": true}, reached)

	slow := measured()
	for i := range slow.Samples {
		if s := &slow.Samples[i]; s.System == ours && s.Scenario == "catchup" {
			s.Values["rate"] /= 2
		}
	}
	for _, g := range slow.reachedGoals() {
		if g.scenario == "catchup" {
			require.False(t, g.ok)
		}
	}
}

func TestDocsHoldWhatWasMeasured(t *testing.T) {
	dir := t.TempDir()
	r := measured()
	r.Failures = append(r.Failures, failure{"catchup", "slony", 1, "it fell over\nand more"})
	require.NoError(t, r.writeDocs(dir))
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "| worker | 4 000 (2 000–6 000) | 3.00 (2.00–4.00) |")
	require.Contains(t, string(page), "Failed: slony in round 1 of catchup: it fell over\n")
	require.NotContains(t, string(page), "## Fan-in", "nothing was measured of it")
	chart, err := os.ReadFile(filepath.Join(dir, chartDirectory, "catchup.svg"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(chart), "<svg ") && strings.HasSuffix(string(chart), "</svg>\n"))
	require.Contains(t, string(chart), ">4 000<")
}

func TestNumbersHaveThousands(t *testing.T) {
	require.Equal(t, "1 234 567", number(1234567, 0))
	require.Equal(t, "-1 234.50", number(-1234.5, 2))
	require.Equal(t, "999", number(999, 0))
	require.Equal(t, "0.10", number(0.1, 2))
}

func TestScalesStayWithinTheChart(t *testing.T) {
	for _, figures := range [][]float64{{5}, {1, 2, 3}, {0.1, 1000}, {0, 0}, {-3, 4}, {1, 10, 100, 1000, 10000}} {
		for _, fromZero := range []bool{true, false} {
			s := newScale(figures, 100, 500, fromZero)
			for _, f := range figures {
				require.GreaterOrEqual(t, s.at(f), 100.0)
				require.LessOrEqual(t, s.at(f), 500.0)
			}
			require.Less(t, len(s.ticks()), 25)
		}
	}
}

// TestProfileCounts: shares are of the known processes' samples, and functions are
// named with what they are of.
func TestProfileCounts(t *testing.T) {
	p := &profile{titles: map[int]string{7: "source, session", 8: "courier"}}
	shares := p.count([]byte(`    7     55d0c1 [unknown] (/usr/lib/postgresql/15/bin/postgres)
    7     55d0c2 heap_insert (/usr/lib/postgresql/15/bin/postgres)
    9     55d0c2 heap_insert (/usr/lib/postgresql/15/bin/postgres)
    8     4fd0c2 github.com/pg-courier/pg_courier/pkg/wire.(*Decoder).tuple (/tmp/courier)
    8     ffff01 clear_page ([kernel.kallsyms])
`))
	require.Equal(t, map[string]map[string]float64{
		"source, session": {"all functions": 0.5, "all of postgres": 0.5, "static functions of postgres": 0.25, "`heap_insert` of postgres": 0.25},
		"courier": {"all functions": 0.5, "all of courier": 0.25, "all of kernel": 0.25, "`wire.(*Decoder).tuple` of courier": 0.25,
			"`clear_page` of kernel": 0.25},
	}, shares)
}

// TestReportsOfSeveralRuns: scenarios of several runs make one report, but none is in two.
func TestReportsOfSeveralRuns(t *testing.T) {
	dir := t.TempDir()
	write := func(name, processor string, scenarios ...string) string {
		r := &report{Processor: processor, Seconds: 10}
		for _, s := range scenarios {
			r.Samples = append(r.Samples, sample{Scenario: s})
		}
		file := filepath.Join(dir, name)
		require.NoError(t, r.write(&config{json: file}))
		return file
	}
	a, b, again := write("a", "x", "copy"), write("b", "x", "link", "batch"), write("again", "x", "copy")
	r, err := readReports(a + "," + b)
	require.NoError(t, err)
	require.Len(t, r.Samples, 3)
	require.Equal(t, []any{2, 20.0}, []any{r.Runs, r.Seconds})
	_, err = readReports(a + "," + again)
	require.ErrorContains(t, err, "scenario copy")
	_, err = readReports(a + "," + write("other", "y", "link"))
	require.ErrorContains(t, err, "another machine")
}
