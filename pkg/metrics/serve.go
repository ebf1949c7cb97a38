package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// Limits for whoever connects. Writing takes longer than waiting for databases.
const (
	headerTimeout    = 5 * time.Second
	readTimeout      = 10 * time.Second
	writeTimeout     = 30 * time.Second
	keepAliveTimeout = 2 * time.Minute
	shutdownTimeout  = 3 * time.Second
	maxHeaderBytes   = 16 << 10
	scrapesAtOneTime = 4
)

// Config says what is shown.
type Config struct {
	Version   string
	Databases []supervise.Database             // names and where to ask
	States    func() []supervise.DatabaseState // of the supervisor
	Observer  *Observer                        // the supervisor's; nil: nothing is counted
	Live      func() error                     // why the process' loops are stuck; nil: they never are
	Log       *slog.Logger                     // nil: slog.Default()
}

// Serve answers on the listener until ctx is over, then lets requests underway
// end, and returns nil. It closes the listener in any case.
func Serve(ctx context.Context, listener net.Listener, config Config) error {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	handler, sources := newHandler(config, time.Now)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       keepAliveTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug),
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for _, s := range sources {
		group.Go(func() { s.run(ctx) })
	}
	group.Go(func() {
		<-ctx.Done()
		shutdown, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer done()
		if server.Shutdown(shutdown) != nil {
			server.Close() // who is still reading is cut off
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	}
	return nil
}

// newHandler returns the endpoints, and the sources, which have to be run.
func newHandler(config Config, now func() time.Time) (http.Handler, []*source) {
	c := &collector{version: config.Version, states: config.States, observer: config.Observer}
	if c.observer == nil {
		c.observer = NewObserver()
	}
	for _, d := range config.Databases {
		c.sources = append(c.sources, newSource(d, config.Log, now))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(config.Log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOneTime,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { healthz(w, config.Live) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { readyz(w, config) })
	return mux, c.sources
}
