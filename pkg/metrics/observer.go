package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// applyBuckets go from a row on the same host to a batch on a slow link, in
// seconds.
var applyBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Values of the labels operation and conflict, in the order that Applied lists them
// in; those of conflict are PostgreSQL 18's names.
var (
	operations = []string{"insert", "update", "delete", "truncate", "event", "ddl", "copy"}
	conflicts  = []string{"insert_exists", "update_exists", "update_missing", "delete_missing"}
)

// Observer counts what the loops of a supervisor do. It implements
// supervise.Observer; methods may be called from any goroutine.
type Observer struct {
	batches, retries, shipped, changes *prometheus.CounterVec
	filtered, folded, conflicts        *prometheus.CounterVec
	read, render                       *prometheus.CounterVec
	apply                              *prometheus.HistogramVec

	mu     sync.Mutex
	series map[subscriptionKey]*counters
}

// subscriptionKey names a subscription; database is that of its configuration.
type subscriptionKey struct{ database, subscription string }

// counters are one subscription's.
type counters struct {
	batches, retries, shipped prometheus.Counter
	filtered, folded          prometheus.Counter
	read, render              prometheus.Counter
	changes, conflicts        []prometheus.Counter // by operation, by kind
	apply                     prometheus.Observer
}

// NewObserver returns an observer that has seen nothing yet.
func NewObserver() *Observer {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "courier_subscription_" + name, Help: help},
			append([]string{database, subscription}, more...))
	}
	return &Observer{
		series:  make(map[subscriptionKey]*counters),
		batches: counter("batches_total", "Transactions committed on the node."),
		retries: counter("retries_total", "Times that shipping was tried again after an error."),
		shipped: counter("shipped_bytes_total", "Bytes of statements sent to the node and committed there."),
		changes: counter("changes_total", "Changes applied on the node, as they were made, before folding.", operation),
		filtered: counter("filtered_changes_total",
			"Changes of the subscription's tables that were read from the queue and not sent."),
		folded: counter("folded_changes_total",
			"Changes applied that needed no row of their own, because others of their batch changed the same row."),
		conflicts: counter("conflicts_total", "Rows of the node that were not as a change expected.", conflict),
		read:      counter("read_seconds_total", "Time spent reading the queue."),
		render:    counter("render_seconds_total", "Time spent making statements of what was read."),
		apply: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "courier_subscription_apply_seconds",
			Help:    "From sending a batch to the node's answer.",
			Buckets: applyBuckets,
		}, []string{database, subscription}),
	}
}

// Applied implements supervise.Observer.
func (o *Observer) Applied(database, subscription string, a ship.Applied) {
	c := o.of(subscriptionKey{database, subscription})
	c.batches.Add(float64(a.Batches))
	c.shipped.Add(float64(a.Bytes))
	c.filtered.Add(float64(a.Filtered))
	c.folded.Add(float64(a.Folded))
	c.read.Add(a.Read.Seconds())
	c.render.Add(a.Render.Seconds())
	for i, n := range []int64{a.Inserted, a.Updated, a.Deleted, a.Truncated, a.Events, a.Commands, a.Copied} {
		c.changes[i].Add(float64(n))
	}
	for i, n := range []int64{a.Conflicts.InsertExists, a.Conflicts.UpdateExists, a.Conflicts.UpdateMissing, a.Conflicts.DeleteMissing} {
		c.conflicts[i].Add(float64(n))
	}
	if a.Batches > 0 {
		c.apply.Observe(a.Apply.Seconds())
	}
}

// Retried implements supervise.Observer.
func (o *Observer) Retried(database, subscription string) {
	o.of(subscriptionKey{database, subscription}).retries.Inc()
}

// of returns a subscription's counters; new ones are 0.
func (o *Observer) of(key subscriptionKey) *counters {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.series[key]
	if c == nil {
		labels := []string{label(key.database), label(key.subscription)}
		c = &counters{
			batches:  o.batches.WithLabelValues(labels...),
			retries:  o.retries.WithLabelValues(labels...),
			shipped:  o.shipped.WithLabelValues(labels...),
			filtered: o.filtered.WithLabelValues(labels...),
			folded:   o.folded.WithLabelValues(labels...),
			read:     o.read.WithLabelValues(labels...),
			render:   o.render.WithLabelValues(labels...),
			apply:    o.apply.WithLabelValues(labels...),
		}
		for _, name := range operations {
			c.changes = append(c.changes, o.changes.WithLabelValues(append(labels, name)...))
		}
		for _, name := range conflicts {
			c.conflicts = append(c.conflicts, o.conflicts.WithLabelValues(append(labels, name)...))
		}
		o.series[key] = c
	}
	return c
}

// forget drops the series of subscriptions that are gone.
func (o *Observer) forget(gone func(subscriptionKey) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.series, func(key subscriptionKey, _ *counters) bool {
		if !gone(key) {
			return false
		}
		labels := prometheus.Labels{database: label(key.database), subscription: label(key.subscription)}
		for _, vec := range o.vectors() {
			vec.DeletePartialMatch(labels)
		}
		return true
	})
}

// vector is what all kinds of metric vectors have.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (o *Observer) vectors() []vector {
	return []vector{o.batches, o.retries, o.shipped, o.changes, o.filtered, o.folded, o.conflicts, o.read, o.render, o.apply}
}
