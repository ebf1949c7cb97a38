package main

import (
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
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// report is all that was measured, and its JSON form.
type report struct {
	Date       string            `json:"date"`
	PostgreSQL string            `json:"postgresql"`
	Courier    string            `json:"courier"`
	Processor  string            `json:"processor"`
	CPUs       int               `json:"cpus"`
	MemoryMB   int               `json:"memory_mb"`
	Rows       int               `json:"rows"`
	Settings   map[string]string `json:"settings"`
	Systems    []named           `json:"systems"`
	Captures   []named           `json:"captures"`
	Absent     []string          `json:"absent,omitempty"`
	Seconds    float64           `json:"seconds"`
	Runs       int               `json:"runs,omitempty"` // of which this is made, if there are several
	Samples    []sample          `json:"samples"`
	Failures   []failure         `json:"failures,omitempty"`
}

// named says what the short name of a system stands for.
type named struct {
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	Preload  string            `json:"preload,omitempty"`
	Settings map[string]string `json:"settings,omitempty"` // beyond those of every server
	Share    float64           `json:"share"`              // of the rows
}

func newReport(ctx context.Context, c *config) (*report, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return nil, err
	}
	r := &report{Date: time.Now().UTC().Format("2006-01-02"), CPUs: runtime.NumCPU(), Rows: c.rows, Settings: maps.Clone(settings)}
	r.Processor, r.MemoryMB = machine()
	r.Settings["fsync"] = "on"
	for _, s := range systems {
		r.Systems = append(r.Systems, named{s.name, s.title, s.preload, s.settings, s.share})
	}
	for _, way := range captures {
		r.Captures = append(r.Captures, named{Name: way.name, Title: way.title, Share: way.share})
	}
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

// machine names the processor and the memory of this machine.
func machine() (processor string, memoryMB int) {
	if content, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(content)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				processor = strings.TrimSpace(value)
				break
			}
		}
	}
	if content, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kB int
		if _, err := fmt.Sscanf(string(content), "MemTotal: %d kB", &kB); err == nil {
			memoryMB = kB / 1024
		}
	}
	return processor, memoryMB
}

func (r *report) head() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		list = append(list, name+"="+r.Settings[name])
	}
	return fmt.Sprintf("%s; %s; %d CPUs (%s), %d MB of memory\nevery server: %s\n",
		r.PostgreSQL, r.Courier, r.CPUs, r.Processor, r.MemoryMB, strings.Join(list, " "))
}

func (r *report) printHead(w io.Writer) {
	fmt.Fprint(w, r.head())
	for _, what := range r.Absent {
		fmt.Fprintf(w, "left out: %s\n", what)
	}
}

// leaveOut notes that something can't be measured.
func (r *report) leaveOut(name string, absent, packages []string) {
	r.Absent = append(r.Absent, fmt.Sprintf("%s is not installed (no %s); make bench-peers, or apt-get install %s",
		name, strings.Join(absent, ", no "), strings.Join(packages, " ")))
}

// print reports everything.
func (r *report) print(w io.Writer) {
	r.printHead(w)
	for i := range scenarios {
		r.printScenario(w, &scenarios[i])
	}
	r.printEnd(w)
}

func (r *report) printEnd(w io.Writer) {
	r.printGoals(w)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "\nfailed: %s, %s, round %d: %s\n", f.Scenario, f.System, f.Round, f.Error)
	}
	fmt.Fprintf(w, "\nbench: done in %.0f s\n", r.Seconds)
}

// write writes the files that are asked for.
func (r *report) write(c *config) error {
	if c.json != "" {
		content, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write measurements: %w", err)
		}
		if err := os.WriteFile(c.json, append(content, '\n'), 0o644); err != nil {
			return fmt.Errorf("write measurements: %w", err)
		}
	}
	if c.docs != "" {
		return r.writeDocs(c.docs)
	}
	return nil
}

// readReports reads what -json has written, in one run or in several that measured
// other scenarios on the same machine, with commas between the files.
func readReports(list string) (*report, error) {
	var all *report
	for name := range strings.SplitSeq(list, ",") {
		r, err := readReport(name)
		switch {
		case err != nil:
			return nil, err
		case all == nil:
			all = r
			continue
		case r.PostgreSQL != all.PostgreSQL || r.Processor != all.Processor || r.CPUs != all.CPUs || !maps.Equal(r.Settings, all.Settings):
			return nil, fmt.Errorf("%s is of another machine, server or settings than the files before it", name)
		}
		for i := range r.Samples {
			if slices.ContainsFunc(all.Samples, func(s sample) bool { return s.Scenario == r.Samples[i].Scenario }) {
				return nil, fmt.Errorf("%s has measured scenario %s, as a file before it has", name, r.Samples[i].Scenario)
			}
		}
		all.Runs = max(all.Runs, 1) + max(r.Runs, 1)
		all.Seconds += r.Seconds
		all.Samples = append(all.Samples, r.Samples...)
		all.Failures = append(all.Failures, r.Failures...)
		all.Absent = append(all.Absent, r.Absent...)
	}
	return all, nil
}

// readReport reads what -json has written.
func readReport(name string) (*report, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("read measurements from %s: %w", name, err)
	}
	return r, nil
}
