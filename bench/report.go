package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// report is all that was measured, and its JSON form.
type report struct {
	PostgreSQL string            `json:"postgresql"`
	Courier    string            `json:"courier"`
	CPUs       int               `json:"cpus"`
	Settings   map[string]string `json:"settings"`
	Seconds    float64           `json:"seconds"`
	Capture    []captureRun      `json:"capture"`
	CatchUp    []catchUpRun      `json:"catch_up"`
	Latency    []latencyRun      `json:"latency"`
	Commit     []commitRun       `json:"commit"`

	systems []string
}

func newReport(ctx context.Context, c *config) (*report, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return nil, err
	}
	r := &report{CPUs: runtime.NumCPU(), Settings: maps.Clone(settings), systems: c.chosen()}
	r.Settings["fsync"] = "on"
	for program, version := range map[*exec.Cmd]*string{
		exec.CommandContext(ctx, inst.Program("postgres"), "--version"): &r.PostgreSQL,
		exec.CommandContext(ctx, c.courier, "version"):                  &r.Courier,
	} {
		out, err := program.Output()
		if err != nil {
			return nil, fmt.Errorf("ask %s for its version (make builds and installs it): %w", program.Path, err)
		}
		*version = strings.TrimSpace(string(out))
	}
	return r, nil
}

func (r *report) printHead(w io.Writer) {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		list = append(list, name+"="+r.Settings[name])
	}
	fmt.Fprintf(w, "%s; %s; %d CPUs\nevery server: %s\n", r.PostgreSQL, r.Courier, r.CPUs, strings.Join(list, " "))
}

// table prints tab-separated lines as columns, all but the first right-aligned.
func table(w io.Writer, lines [][]string) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range lines {
		width := 0
		for _, other := range lines {
			width = max(width, len(other[0]))
		}
		fmt.Fprintf(t, "%-*s\t%s\t\n", width, line[0], strings.Join(line[1:], "\t"))
	}
	t.Flush()
	fmt.Fprint(w, b.String())
}

func (r *report) captured(system, statement string, value func(*captureRun) float64) map[int]float64 {
	byRound := make(map[int]float64)
	for i := range r.Capture {
		if run := &r.Capture[i]; run.System == system && run.Statement == statement {
			byRound[run.Round] = value(run)
		}
	}
	return byRound
}

func (r *report) printCapture(w io.Writer) {
	fmt.Fprintf(w, "\nCapture: µs a row of one statement of %d rows, commit included; median (min–max)\n\n", r.Capture[0].Rows)
	lines := [][]string{{"", "statement", "time", "added", "CPU added", "limit"}}
	wall := func(run *captureRun) float64 { return run.Wall }
	cpu := func(run *captureRun) float64 { return run.CPU }
	minus := func(a, b float64) float64 { return a - b }
	plain := capturePeers[0].Name
	for _, statement := range captureStatements {
		for _, peer := range capturePeers {
			line := []string{peer.Name, statement.name,
				micros(spreadOf(values(r.captured(peer.Name, statement.name, wall)))), "", "", ""}
			if peer.Name != plain {
				line[3] = micros(spreadOf(paired(r.captured(peer.Name, statement.name, wall), r.captured(plain, statement.name, wall), minus)))
				line[4] = micros(spreadOf(paired(r.captured(peer.Name, statement.name, cpu), r.captured(plain, statement.name, cpu), minus)))
			}
			if peer.Name == "pg_courier" {
				line[5] = fmt.Sprintf("< %.1f", statement.limit)
			}
			lines = append(lines, line)
		}
	}
	table(w, lines)
}

func micros(s spread) string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max) }

func (r *report) shipped(system, workload string, value func(*catchUpRun) float64) map[int]float64 {
	byRound := make(map[int]float64)
	for i := range r.CatchUp {
		if run := &r.CatchUp[i]; run.System == system && run.Workload == workload {
			byRound[run.Round] = value(run)
		}
	}
	return byRound
}

func (r *report) printCatchUp(w io.Writer) {
	fmt.Fprintf(w, "\nCatch-up of a backlog: rows/s; median (min–max) and CPU µs a row; ratios within a round to %s\n", reference)
	rate := func(run *catchUpRun) float64 { return run.rate() }
	ratio := func(a, b float64) float64 { return a / b }
	for i := range workloads {
		load := &workloads[i]
		lines := [][]string{{"", "rows/s", "ratio", "goal", "source CPU", "sidecar CPU", "target CPU", "sidecar MB"}}
		rows := 0
		for _, system := range r.systems {
			medianOf := func(value func(*catchUpRun) float64) float64 {
				return spreadOf(values(r.shipped(system, load.Name, value))).Median
			}
			s := spreadOf(values(r.shipped(system, load.Name, rate)))
			rows = int(medianOf(func(run *catchUpRun) float64 { return float64(run.Rows) }))
			line := []string{system, fmt.Sprintf("%.0f (%.0f–%.0f)", s.Median, s.Min, s.Max), "", "",
				perRow(medianOf(func(run *catchUpRun) float64 { return run.SourceCPU }), rows),
				perRow(medianOf(func(run *catchUpRun) float64 { return run.ShipperCPU }), rows),
				perRow(medianOf(func(run *catchUpRun) float64 { return run.TargetCPU }), rows), ""}
			if memory := medianOf(func(run *catchUpRun) float64 { return run.PeakMB }); memory > 0 {
				line[7] = fmt.Sprintf("%.0f", memory)
			}
			if to := paired(r.shipped(system, load.Name, rate), r.shipped(reference, load.Name, rate), ratio); system != reference && len(to) > 0 {
				s := spreadOf(to)
				line[2] = fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
				line[3] = fmt.Sprintf("≥ %.1f", load.goal)
			}
			lines = append(lines, line)
		}
		fmt.Fprintf(w, "\n%s: %d rows, %s\n\n", load.Name, rows, load.Title)
		table(w, lines)
	}
}

// perRow turns seconds into µs a row.
func perRow(seconds float64, rows int) string {
	if seconds == 0 || rows == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", seconds*1e6/float64(rows))
}

func (r *report) writeJSON(name string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write measurements: %w", err)
	}
	if err := os.WriteFile(name, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write measurements: %w", err)
	}
	return nil
}
