package metrics

import "github.com/prometheus/client_golang/prometheus"

// Labels.
const (
	database     = "database"
	subscription = "subscription"
	node         = "node"
	state        = "state"
	operation    = "operation"
	conflict     = "conflict"
)

// The states that are always shown, 1 for the present one and 0 for the others.
var (
	databaseStates     = []string{"connecting", "ready", "down", "missing", "incompatible"}
	subscriptionStates = []string{"copying", "streaming", "retrying", "stopped", "needs_resync", "standby", "disabled"}
	nodeStates         = []string{"up", "degraded", "down", "unknown"}
)

// Metrics that are read at a scrape; the Observer has those that count.
var (
	buildInfo = describe("build_info", "1, with the version of courier and of its Go.", "version", "goversion")

	databaseUp = describe("database_up",
		"1 if the last collection could ask the database, 0 if not.", database)
	databaseState = describe("database_state",
		"1 for the state the database is in, 0 for the others.", database, state)
	databaseQueueBytes = describe("database_queue_bytes",
		"Size of the queue on disk, indexes and what is shipped already included.", database)
	databaseQueueOldest = describe("database_queue_oldest_change_seconds",
		"Age of the oldest change in the queue, shipped or not; absent if the queue is empty.", database)
	databaseCollectSeconds = describe("database_collect_seconds",
		"How long the last collection from the database took.", database)
	databaseCollected = describe("database_collected_timestamp_seconds",
		"When the last collection from the database ended, as Unix time.", database)

	subscriptionInfo = describe("subscription_info",
		"1, with the node that the subscription sends to.", database, subscription, node)
	subscriptionState = describe("subscription_state",
		"1 for the state the subscription is in, 0 for the others.", database, subscription, state)
	subscriptionLagSeconds = describe("subscription_lag_seconds",
		"Age of the oldest change in the queue behind the subscription's position, 0 if there is none.",
		database, subscription)
	subscriptionLagBytes = describe("subscription_lag_bytes",
		"Bytes in the queue behind the subscription's position; an estimate if there are many.", database, subscription)
	subscriptionPending = describe("subscription_pending_changes",
		"Changes in the queue behind the subscription's position; an estimate if there are many.", database, subscription)
	subscriptionDeadLetters = describe("subscription_dead_letters",
		"Dead letters that wait for a person.", database, subscription)
	copyTables = describe("copy_tables",
		"Tables whose existing rows are being copied or wait for it.", database, subscription)
	copyRows = describe("copy_rows",
		"Rows of those tables that have been copied.", database, subscription)
	copyBytes = describe("copy_bytes",
		"Size of what has been copied of those tables.", database, subscription)
	copyBytesTotal = describe("copy_total_bytes",
		"Size of those tables, as far as their copy has begun.", database, subscription)
	copyRate = describe("copy_bytes_per_second",
		"How fast those tables were copied lately, 0 while nothing is copied.", database, subscription)

	nodeUp = describe("node_up",
		"1 if the last probe reached the node, 0 if not; absent before the first.", database, node)
	nodeState = describe("node_state",
		"1 for the state the node is in, 0 for the others.", database, node, state)
	nodeLatency = describe("node_latency_seconds",
		"Round trip of the last probe that reached the node.", database, node)

	described = []*prometheus.Desc{buildInfo, databaseUp, databaseState, databaseQueueBytes, databaseQueueOldest,
		databaseCollectSeconds, databaseCollected, subscriptionInfo, subscriptionState, subscriptionLagSeconds,
		subscriptionLagBytes, subscriptionPending, subscriptionDeadLetters,
		copyTables, copyRows, copyBytes, copyBytesTotal, copyRate, nodeUp, nodeState, nodeLatency}
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("courier_"+name, help, labels, nil)
}
