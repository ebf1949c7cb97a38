package main

import (
	"fmt"
	"io"
	"slices"
)

// latencies collects a figure of the runs of a system at a rate.
func (r *report) latencies(system string, rate int, value func(*latencyRun) float64) map[int]float64 {
	byRound := make(map[int]float64)
	for i := range r.Latency {
		if run := &r.Latency[i]; run.System == system && run.Rate == rate {
			byRound[run.Round] = value(run)
		}
	}
	return byRound
}

func (r *report) printLatency(w io.Writer) {
	fmt.Fprintf(w, "\nLatency: ms from a row's commit, acknowledged, to its being seen on the target; median of the rounds; ratios within a round to %s; CPU µs a row\n", reference)
	var rates []int
	for _, run := range r.Latency {
		if !slices.Contains(rates, run.Rate) {
			rates = append(rates, run.Rate)
		}
	}
	p50 := func(run *latencyRun) float64 { return run.P50 }
	ratio := func(a, b float64) float64 { return a / b }
	for _, rate := range rates {
		lines := [][]string{{"", "rows", "p50", "p90", "p99", "max", "ratio of p50", "source CPU", "sidecar CPU", "target CPU"}}
		achieved := 0.0
		for _, system := range r.systems {
			of := func(value func(*latencyRun) float64) float64 {
				return spreadOf(values(r.latencies(system, rate, value))).Median
			}
			ms := func(value func(*latencyRun) float64) string { return fmt.Sprintf("%.2f", of(value)) }
			cpu := func(value func(*latencyRun) float64) string {
				return perRow(of(value), int(of(func(run *latencyRun) float64 { return float64(run.Rows) })))
			}
			achieved = of(func(run *latencyRun) float64 { return run.Achieved })
			line := []string{system, fmt.Sprintf("%.0f", of(func(run *latencyRun) float64 { return float64(run.Rows) })), ms(p50),
				ms(func(run *latencyRun) float64 { return run.P90 }), ms(func(run *latencyRun) float64 { return run.P99 }),
				ms(func(run *latencyRun) float64 { return run.Max }), "",
				cpu(func(run *latencyRun) float64 { return run.SourceCPU }), cpu(func(run *latencyRun) float64 { return run.ShipperCPU }),
				cpu(func(run *latencyRun) float64 { return run.TargetCPU })}
			if to := paired(r.latencies(system, rate, p50), r.latencies(reference, rate, p50), ratio); system != reference && len(to) > 0 {
				line[6] = fmt.Sprintf("%.1f", spreadOf(to).Median)
			}
			lines = append(lines, line)
		}
		fmt.Fprintf(w, "\n%d transactions/s of one row (%.0f reached)\n\n", rate, achieved)
		table(w, lines)
	}
}

func (r *report) commits(peer string) map[int]float64 {
	byRound := make(map[int]float64)
	for _, run := range r.Commit {
		if run.Peer == peer {
			byRound[run.Round] = run.Rate
		}
	}
	return byRound
}

func (r *report) printCommit(w io.Writer) {
	fmt.Fprintf(w, "\nCommit: captured transactions of one row; median (min–max); ratios within a round\n\n")
	lines := [][]string{{"", "transactions/s", "ratio", "goal"}}
	first := commitPeers[0].Name
	for _, peer := range commitPeers {
		rate := spreadOf(values(r.commits(peer.Name)))
		line := []string{peer.Name, fmt.Sprintf("%.0f (%.0f–%.0f)", rate.Median, rate.Min, rate.Max), "", ""}
		if peer.Name != first {
			ratio := spreadOf(paired(r.commits(peer.Name), r.commits(first), func(a, b float64) float64 { return a / b }))
			line[2] = fmt.Sprintf("%.3f (%.3f–%.3f)", ratio.Median, ratio.Min, ratio.Max)
			line[3] = fmt.Sprintf("≥ %.2f", commitGoal)
		}
		lines = append(lines, line)
	}
	table(w, lines)
}
