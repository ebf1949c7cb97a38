package metrics

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// patience is how long a scrape waits for collections.
const patience = time.Second

// collector puts the three sources together at a scrape.
type collector struct {
	version  string
	states   func() []supervise.DatabaseState
	observer *Observer
	sources  []*source
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range described {
		descs <- d
	}
	for _, vec := range c.observer.vectors() {
		vec.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	c.refresh()
	e := emitter{metrics}
	e.one(buildInfo, 1, c.version, runtime.Version())

	states := make(map[string]supervise.DatabaseState)
	for _, d := range c.states() {
		states[d.Name] = d
	}
	known := make(map[subscriptionKey]bool)
	sure := make(map[string]bool) // databases whose subscriptions are all in known
	for _, s := range c.sources {
		name := s.database.Name
		d := states[name]
		sure[name] = d.State == "ready"
		current := s.current()
		e.database(name, d, current)
		for _, sub := range subscriptions(d, current.values) {
			key := subscriptionKey{name, sub.name}
			known[key] = true
			c.observer.of(key) // so that its counters begin with 0
			e.subscription(name, sub)
		}
		for _, n := range d.Nodes {
			e.node(name, n)
		}
	}
	c.observer.forget(func(key subscriptionKey) bool { return sure[key.database] && !known[key] })
	for _, vec := range c.observer.vectors() {
		vec.Collect(metrics)
	}
}

// refresh lets all databases be asked, and waits for them for a while.
func (c *collector) refresh() {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	var underway []<-chan struct{}
	for _, s := range c.sources {
		underway = append(underway, s.refresh())
	}
	for _, done := range underway {
		select {
		case <-done:
		case <-timeout.C:
			return
		}
	}
}

// subscriptions merges what the database says with what the supervisor knows,
// which is later. Each is listed once, in the order of names.
func subscriptions(d supervise.DatabaseState, v *values) []subscriptionValues {
	var all []subscriptionValues
	if v != nil {
		all = slices.Clone(v.subscriptions)
	}
	for _, s := range d.Subscriptions {
		i := slices.IndexFunc(all, func(a subscriptionValues) bool { return a.name == s.Name })
		if i < 0 {
			all = append(all, subscriptionValues{name: s.Name, node: s.Node})
			i = len(all) - 1
		}
		if s.State != "" {
			all[i].state = s.State
		}
	}
	slices.SortFunc(all, func(a, b subscriptionValues) int { return strings.Compare(a.name, b.name) })
	return all
}

// emitter writes the metrics of one scrape.
type emitter struct{ metrics chan<- prometheus.Metric }

func (e emitter) one(d *prometheus.Desc, value float64, labels ...string) {
	for i := range labels {
		labels[i] = label(labels[i])
	}
	e.metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// some leaves out what is unknown.
func (e emitter) some(d *prometheus.Desc, value *float64, labels ...string) {
	if value != nil {
		e.one(d, *value, labels...)
	}
}

// set writes a state set; a state that is not in the list is added to it.
func (e emitter) set(d *prometheus.Desc, states []string, present string, labels ...string) {
	if present == "" {
		return
	}
	if !slices.Contains(states, present) {
		states = append(slices.Clone(states), present)
	}
	for _, s := range states {
		e.one(d, truth(s == present), append(slices.Clone(labels), s)...)
	}
}

func (e emitter) database(name string, d supervise.DatabaseState, current collection) {
	e.set(databaseState, databaseStates, d.State, name)
	if current.ended.IsZero() { // the first collection has not ended yet
		return
	}
	e.one(databaseUp, truth(current.values != nil), name)
	e.one(databaseCollectSeconds, current.took.Seconds(), name)
	e.one(databaseCollected, float64(current.ended.UnixMilli())/1000, name)
	if current.values != nil {
		e.some(databaseQueueBytes, current.queueBytes, name)
		e.some(databaseQueueOldest, current.oldestChange, name)
	}
}

func (e emitter) subscription(database string, s subscriptionValues) {
	e.one(subscriptionInfo, 1, database, s.name, s.node)
	e.set(subscriptionState, subscriptionStates, s.state, database, s.name)
	e.some(subscriptionLagSeconds, s.lagSeconds, database, s.name)
	e.some(subscriptionLagBytes, s.lagBytes, database, s.name)
	e.some(subscriptionPending, s.pendingChanges, database, s.name)
	e.some(subscriptionDeadLetters, s.deadOnes, database, s.name)
	e.some(copyTables, s.copyTables, database, s.name)
	e.some(copyRows, s.copyRows, database, s.name)
	e.some(copyBytes, s.copyBytes, database, s.name)
	e.some(copyBytesTotal, s.copyBytesTotal, database, s.name)
	e.some(copyRate, s.copyRate, database, s.name)
}

func (e emitter) node(database string, n health.Status) {
	e.set(nodeState, nodeStates, string(n.State), database, n.Node)
	switch n.State {
	case health.Up, health.Degraded:
		e.one(nodeUp, 1, database, n.Node)
		e.one(nodeLatency, n.Latency.Seconds(), database, n.Node)
	case health.Down:
		e.one(nodeUp, 0, database, n.Node)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// label makes a name fit for a label: UTF-8 as it is; of a name in another
// encoding, what is not UTF-8 is escaped, so that different names stay so.
func label(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}
