package metrics

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/ship"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// sidecar is what is asked in the tests, with a supervisor that says what it is
// told to and a clock that stands still.
type sidecar struct {
	config  Config
	sources []*source
	server  *httptest.Server
	log     lockedBuffer

	mu     sync.Mutex
	states []supervise.DatabaseState
	clock  time.Time
}

func startSidecar(t *testing.T, config Config, states ...supervise.DatabaseState) *sidecar {
	s := &sidecar{config: config, states: states, clock: time.Now()}
	s.config.Version = "1.2.3"
	s.config.States = func() []supervise.DatabaseState {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.states)
	}
	if s.config.Observer == nil {
		s.config.Observer = NewObserver()
	}
	s.config.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	var handler http.Handler
	handler, s.sources = newHandler(s.config, s.now)
	s.server = httptest.NewServer(handler)
	t.Cleanup(s.server.Close)
	var group sync.WaitGroup
	t.Cleanup(group.Wait) // t.Context() is over by then
	for _, source := range s.sources {
		group.Go(func() { source.run(t.Context()) })
	}
	return s
}

func (s *sidecar) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

// later lets the next scrape collect anew.
func (s *sidecar) later() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(collectEvery)
}

func (s *sidecar) set(states ...supervise.DatabaseState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = states
}

func (s *sidecar) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	response, err := s.server.Client().Get(s.server.URL + path)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

func (s *sidecar) scrape(t *testing.T) page {
	t.Helper()
	status, body := s.get(t, "/metrics")
	require.Equal(t, http.StatusOK, status, body)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	return page{body: body, families: families}
}

// page is what a scrape gave.
type page struct {
	body     string
	families map[string]*dto.MetricFamily
}

// value finds the one series of that name whose labels have these values,
// a name and a value in turn; of a histogram, the number of observations.
func (p page) value(name string, labels ...string) (float64, bool) {
	for _, m := range p.families[name].GetMetric() {
		if matches(m, labels) {
			switch {
			case m.Gauge != nil:
				return m.Gauge.GetValue(), true
			case m.Counter != nil:
				return m.Counter.GetValue(), true
			default:
				return float64(m.Histogram.GetSampleCount()), true
			}
		}
	}
	return 0, false
}

func matches(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == pair[0] && l.GetValue() == pair[1]
		}) {
			return false
		}
	}
	return true
}

func (p page) requireValue(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	got, ok := p.value(name, labels...)
	require.True(t, ok, "%s %v is missing in:\n%s", name, labels, p.body)
	require.Equal(t, want, got, "%s %v", name, labels)
}

func (p page) requireAbsent(t *testing.T, name string, labels ...string) {
	t.Helper()
	got, ok := p.value(name, labels...)
	require.False(t, ok, "%s %v is %v", name, labels, got)
}

// populated is a sidecar all of whose metrics have a value, without a database.
func populated(t *testing.T) *sidecar {
	one := supervise.Database{Name: "shop", DSN: "host=127.0.0.1 port=1 dbname=shop user=u password=topsecret"}
	s := startSidecar(t, Config{Databases: []supervise.Database{one}}, supervise.DatabaseState{
		Name: "shop", State: "ready",
		Subscriptions: []supervise.SubscriptionState{{Name: "eu", Node: "eu1", State: "streaming"}},
		Nodes:         []health.Status{{Node: "eu1", State: health.Up, Latency: 3 * time.Millisecond, ProbedAt: time.Now()}},
	})
	number := func(f float64) *float64 { return &f }
	source, done := s.sources[0], make(chan struct{})
	close(done)
	source.mu.Lock()
	defer source.mu.Unlock()
	source.begun, source.underway = s.now(), done
	source.last = collection{ended: s.now(), took: time.Millisecond, values: &values{
		queueBytes: number(8192), oldestChange: number(2),
		subscriptions: []subscriptionValues{{name: "eu", node: "eu1", state: "streaming",
			lagBytes: number(10), lagSeconds: number(1), pendingChanges: number(3), deadOnes: number(0),
			copyTables: number(1), copyRows: number(5), copyBytes: number(100), copyBytesTotal: number(200), copyRate: number(50)}},
	}}
	s.config.Observer.Applied("shop", "eu", ship.Applied{Shipped: 1, Changes: ship.Changes{Inserted: 1},
		Batches: 1, Bytes: 100, Apply: time.Millisecond})
	return s
}

// lockedBuffer may be read while others write to it.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
