package main

import "slices"

// scenarios in the order they run.
var scenarios = []scenario{
	{
		name: "capture", title: "What capture adds to a statement", standard: true, reference: uncaptured, ours: ownCapture,
		about: "One statement, timed with its commit, on a table that is captured in each way; nobody ships. " +
			"Each way has a database of its own in the same server.",
		metrics: []metric{
			{key: "wall", title: "time", unit: "µs/row", digits: 2, less: true, added: true},
			{key: "cpu", title: "CPU of the session", unit: "µs/row", digits: 2},
			{key: "wal", title: "WAL", unit: "B/row"},
		},
		run: (*bench).measureCapture,
	},
	{
		name: "tpcb", title: "Captured TPC-B", standard: true, reference: uncaptured, ours: ownCapture,
		about: "pgbench's own transaction, three updates and an insert, on tables that are all captured in each way; nobody ships.",
		metrics: []metric{
			{key: "rate", title: "tx/s"},
			{key: "latency", title: "mean", unit: "ms", digits: 2},
			{key: "cpu", title: "CPU of the server", unit: "µs/tx"},
			{key: "wal", title: "WAL", unit: "B/tx"},
		},
		run: (*bench).measureTPCB,
	},
	{
		name: "catchup", title: "Catch-up of a backlog", standard: true, reference: reference,
		about: "Each backlog is committed while shipping is stopped. Then shipping is started, and timed until the target has the last row. " +
			"CPU and WAL are those of a row; the WAL of the source includes the backlog itself.",
		metrics: append([]metric{shippedRows}, costs...),
		run:     (*bench).catchUp,
	},
	{
		name: "latency", title: "Latency", standard: true, reference: reference,
		about: "From a row's commit on the source, acknowledged to the client, until a client that polls the target every 0.1 ms sees it. " +
			"One session commits transactions of one row at the rate.",
		metrics: append([]metric{
			{key: "p50", title: "p50", unit: "ms", digits: 2, less: true},
			{key: "p90", title: "p90", unit: "ms", digits: 2, less: true},
			{key: "p99", title: "p99", unit: "ms", digits: 2, less: true},
			{key: "max", title: "max", unit: "ms", digits: 2, less: true},
			{key: "achieved", title: "reached", unit: "tx/s"},
		}, costs...),
		run: (*bench).measureLatency,
	},
	{
		name: "commit", title: "Commits while shippers wait for them", standard: true, reference: commitPeers[0].name, ours: commitPeers[1].name,
		about: "Sessions that each commit captured transactions of one row, as fast as they can, while nobody, one, or ten others wait for changes.",
		metrics: []metric{
			{key: "rate", title: "tx/s"},
		},
		run: (*bench).measureCommit,
	},
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// standardScenarios are those that run unless told otherwise.
func standardScenarios() []string {
	var names []string
	for _, s := range scenarios {
		if s.standard {
			names = append(names, s.name)
		}
	}
	return names
}

func findScenario(name string) *scenario {
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &scenarios[i]
}
