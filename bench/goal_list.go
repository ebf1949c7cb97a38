package main

import "slices"

// goals are what pg_courier is to reach, medians of the rounds.
var goals = slices.Concat(
	[]goal{
		{scenario: "capture", named: "insert", atMost: 1.2},
		{scenario: "capture", named: "update", atMost: 1.8},
		{scenario: "capture", named: "insert", against: "pgq", atLeast: 6},
		{scenario: "capture", named: "update", against: "pgq", atLeast: 6},
		{scenario: "capture", named: "insert", against: "jsonb-queue", atLeast: 4},
		{scenario: "capture", named: "update", against: "jsonb-queue", atLeast: 4},
		{scenario: "tpcb", named: "8 clients", against: uncaptured, atLeast: 0.92},
	},
	catchUpGoals(reference, 1.8, 1.8, 4, 10),
	catchUpGoals("pglogical", 1.8, 1.8, 4, 10),
	catchUpGoals("slony", 2, 2, 2, 2, 2, 2, 2),
	catchUpGoals("londiste", 8, 8, 8, 8, 8, 8, 8),
	catchUpGoals("bucardo", 8, 8, 8, 8, 8, 8, 8),
	[]goal{
		{scenario: "copy", named: copied[0].title, against: reference, atLeast: 1},
		{scenario: "copy", named: copied[0].title, system: inLanes(ours), against: reference, atLeast: 1.7},
		// half as good: no more than twice the cost
		{scenario: "compare", named: compared[0].title, metric: "seconds", against: comparisonPeers[0].name, atLeast: 0.5},
		{scenario: "compare", named: compared[0].title, metric: "cpu", against: comparisonPeers[0].name, atLeast: 0.5},
		{scenario: "latency", named: "200 transactions/s", metric: "p50", against: reference, atLeast: 1},
		{scenario: "latency", named: "200 transactions/s", metric: "p99", against: reference, atLeast: 1},
		{scenario: "backlog", named: "10 000 000 changes", metric: "flat", atMost: 120},
		{scenario: "fan-out", named: "8 targets", metric: "of_first", atMost: 99},
		{scenario: "fan-out", named: "8 targets", metric: "of_first", system: "sidecar", atMost: 99},
	},
	linkGoals(85),
	[]goal{
		{scenario: "commit", named: "64 sessions", against: commitPeers[0].name, atLeast: 0.95},
		{scenario: "commit", named: "64 sessions", system: commitPeers[2].name, against: commitPeers[0].name, atLeast: 0.95},
	},
)

// catchUpGoals are how many times as fast as a peer pg_courier is to ship
// workloads, in their order.
func catchUpGoals(peer string, times ...float64) []goal {
	var all []goal
	for i, least := range times {
		all = append(all, goal{scenario: "catchup", named: workloads[i].title, against: peer, atLeast: least})
	}
	return all
}

// linkGoals are what part of the rate, in percent, is kept when the link has a delay.
func linkGoals(least float64) []goal {
	var all []goal
	for _, w := range linkWorkloads {
		all = append(all, goal{scenario: "link", named: delayed(w), metric: "kept", atLeast: least})
	}
	return all
}
