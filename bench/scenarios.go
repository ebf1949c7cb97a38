package main

import "slices"

// latencyMetrics are in milliseconds, but for those of cost.
var latencyMetrics = append([]metric{
	{key: "p50", title: "p50", unit: "ms", digits: 2, less: true},
	{key: "p90", title: "p90", unit: "ms", digits: 2, less: true},
	{key: "p99", title: "p99", unit: "ms", digits: 2, less: true},
	{key: "max", title: "max", unit: "ms", digits: 2, less: true},
	{key: "achieved", title: "reached", unit: "tx/s"},
}, costs...)

var courierAndReference = []string{reference, "worker", "sidecar"}

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
		metrics: latencyMetrics,
		run:     (*bench).measureLatency,
	},
	{
		name: "sustained", title: "Highest rate with a lag under a second", reference: reference,
		about: "Eight sessions commit transactions of one row (synchronous_commit off) at a rate that is raised until the target is more than a second behind, or the sessions reach no more. " +
			"The highest rate at which it was not is found by halving.",
		metrics: []metric{
			{key: "rate", title: "tx/s"},
			{key: "lag", title: "lag at that rate", unit: "ms"},
			{key: "capped", title: "1: the sessions reached no more"},
		},
		run: (*bench).sustained,
	},
	{
		name: "copy", title: "Initial copy", reference: reference,
		about: "A table has rows when its subscription is created; timed from there until the target has them and the table is ready, " +
			"of pg_courier until they are counted, too, and the subscription is streaming. Both write it to disk by then. " +
			"pg_courier copies one chunk at once and then several; COPY from one psql into another is the practical limit, of several workers as many pipes of binary COPY.",
		metrics: append([]metric{shippedRows}, costs...),
		run:     (*bench).initialCopy,
	},
	{
		name: "compare", title: "Comparing equal tables", reference: comparisonPeers[0].name, ours: ownComparison,
		about: "A table is equal on both sides, and nobody writes to it. courier.compare says so; beside it, MD5 of each row's text, added up in the server: " +
			"the cheapest statement that tells whether there is a difference, and nothing of where. CPU is that of a row. " +
			"The table of accounts has five times as many rows as a backlog.",
		metrics: []metric{
			{key: "seconds", title: "time", unit: "s", digits: 2, less: true},
			{key: "cpu", title: "CPU of both servers", unit: "µs", digits: 2, less: true},
			{key: "source_cpu", title: "source CPU", unit: "µs", digits: 2},
			{key: "target_cpu", title: "target CPU", unit: "µs", digits: 2},
			{key: "source_mb", title: "source memory", unit: "MB"},
			{key: "target_mb", title: "target memory", unit: "MB"},
		},
		run: (*bench).measureComparison,
	},
	{
		name: "link", title: "Catch-up over a link with a delay", reference: reference,
		about: "As catch-up, through a proxy between the servers, first without, then with a delay of 50 ms a round trip.",
		metrics: append([]metric{
			shippedRows,
			{key: "kept", title: "of the rate without delay", unit: "%"},
		}, costs...),
		run: (*bench).linkCatchUp,
	},
	{
		name: "link-latency", title: "Latency over a link with a delay", reference: reference,
		about:   "As latency, through a proxy that makes round trips between the servers 50 ms longer; who polls the target is beside it.",
		metrics: latencyMetrics,
		run:     (*bench).linkLatency,
	},
	{
		name: "batch", title: "Size of a batch", axis: "batch_rows", systems: []string{"worker"},
		about:   "A backlog of single-row transactions, shipped by pg_courier in batches of several sizes through a proxy without and with a delay of 50 ms a round trip.",
		metrics: append([]metric{shippedRows}, costs...),
		run:     (*bench).sweepBatches,
	},
	{
		name: "backlog", title: "Cost of a change as the backlog grows", reference: reference, axis: "changes", systems: courierAndReference,
		about: "As catch-up, with backlogs of several sizes, inserted in transactions of 1,000. The time includes that to start; " +
			"a further change is one by which a backlog exceeds the one before.",
		metrics: append([]metric{
			{key: "cpu", title: "CPU of all processes", unit: "µs", digits: 2, less: true},
			{key: "time", title: "time", unit: "µs", digits: 2},
			{key: "further", title: "time of a further change", unit: "µs", digits: 2},
			{key: "flat", title: "of that one size before", unit: "%"},
			shippedRows,
		}, costs...),
		run: (*bench).growBacklog,
	},
	{
		name: "fan-out", title: "Fan-out", reference: reference, axis: "targets", systems: courierAndReference,
		about: "A backlog is shipped from one database to several, in one target server. Rows are counted once for each target; CPU is that of a shipped row.",
		metrics: append([]metric{
			shippedRows,
			{key: "ship_cpu", title: "CPU of source and shipper", unit: "µs", digits: 2},
			{key: "of_first", title: "of that with the fewest targets", unit: "%"},
		}, costs...),
		run: (*bench).fanOut,
	},
	{
		name: "fan-in", title: "Fan-in", reference: reference, axis: "source databases", systems: courierAndReference,
		about: "Backlogs of several databases of one server, which have the same number of rows together, are shipped into one table. " +
			"A reader of the WAL reads that of the whole server for each of the databases.",
		metrics: append([]metric{shippedRows}, costs...),
		run:     (*bench).fanIn,
	},
	{
		name: "commit", title: "Commits while shippers wait for them", standard: true, reference: commitPeers[0].name, ours: commitPeers[1].name,
		about: "Sessions that each commit captured transactions of one row, as fast as they can, while nobody, one, or ten others wait for changes.",
		metrics: []metric{
			{key: "rate", title: "tx/s"},
		},
		run: (*bench).measureCommit,
	},
	{
		name: "profile", title: "Where the CPU time goes", systems: []string{"worker", "sidecar"},
		about: "Recorded with perf while backlogs are inserted and updated with capture, and while they are shipped. " +
			"Each function's part of the CPU time of all processes of that measurement; PostgreSQL's own static functions have no names in a stripped program.",
		metrics: []metric{
			{key: "share", title: "of the CPU time", unit: "%", digits: 1},
		},
		chartless: true,
		run:       (*bench).measureProfiles,
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
