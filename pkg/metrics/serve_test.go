package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/health"
	"github.com/pg-courier/pg_courier/pkg/ship"
	"github.com/pg-courier/pg_courier/pkg/supervise"
)

func text(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := promlint.New(strings.NewReader(populated(t).scrape(t).body)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestCounters(t *testing.T) {
	t.Parallel()
	s := populated(t)
	o := s.config.Observer
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 25 {
				o.Applied("shop", "eu", ship.Applied{Shipped: 28, Changes: ship.Changes{Inserted: 1, Updated: 2, Deleted: 3, Truncated: 4},
					Events: 5, Commands: 6, Copied: 7, Filtered: 7, Folded: 8,
					Conflicts: ship.Conflicts{InsertExists: 1, UpdateExists: 2, UpdateMissing: 3, DeleteMissing: 4},
					Batches:   1, Bytes: 1000, Read: 5 * time.Second, Render: 6 * time.Second, Apply: 40 * time.Millisecond})
				o.Applied("shop", "eu", ship.Applied{Conflicts: ship.Conflicts{InsertExists: 1}}) // a transaction refused
				o.Retried("shop", "eu")
				s.scrape(t)
			}
		})
	}
	group.Wait()
	p := s.scrape(t)
	for operation, want := range map[string]float64{"insert": 101, "update": 200, "delete": 300, "truncate": 400, "event": 500, "ddl": 600, "copy": 700} {
		p.requireValue(t, want, "courier_subscription_changes_total", "database", "shop", "subscription", "eu", "operation", operation)
	}
	for kind, want := range map[string]float64{"insert_exists": 200, "update_exists": 200, "update_missing": 300, "delete_missing": 400} {
		p.requireValue(t, want, "courier_subscription_conflicts_total", "subscription", "eu", "conflict", kind)
	}
	for name, want := range map[string]float64{"filtered_changes": 700, "folded_changes": 800, "read_seconds": 500, "render_seconds": 600} {
		p.requireValue(t, want, "courier_subscription_"+name+"_total", "subscription", "eu")
	}
	p.requireValue(t, 101, "courier_subscription_batches_total", "subscription", "eu")
	p.requireValue(t, 100, "courier_subscription_retries_total", "subscription", "eu")
	p.requireValue(t, 100100, "courier_subscription_shipped_bytes_total", "subscription", "eu")
	p.requireValue(t, 101, "courier_subscription_apply_seconds", "subscription", "eu")
	require.Contains(t, p.body, `courier_subscription_apply_seconds_bucket{database="shop",subscription="eu",le="0.05"} 101`)
	require.Contains(t, p.body, `courier_build_info{goversion="go`)
	require.NotContains(t, p.body+s.log.String(), "topsecret")
}

func TestStates(t *testing.T) {
	t.Parallel()
	s := populated(t)
	s.set(supervise.DatabaseState{Name: "shop", State: "ready",
		Subscriptions: []supervise.SubscriptionState{{Name: "eu", Node: "eu1", State: "standby"}, {Name: "latin\xe4", State: "new"}},
		Nodes:         []health.Status{{Node: "eu1", State: health.Down}, {Node: "eu2", State: health.Unknown}, {Node: "eu3", State: health.Degraded}},
	})
	p := s.scrape(t)
	p.requireValue(t, 1, "courier_subscription_state", "subscription", "eu", "state", "standby")
	p.requireValue(t, 0, "courier_subscription_state", "subscription", "eu", "state", "streaming")
	p.requireValue(t, 1, "courier_subscription_state", "subscription", `latin\xe4`, "state", "new")
	p.requireValue(t, 0, "courier_node_up", "node", "eu1")
	p.requireAbsent(t, "courier_node_latency_seconds", "node", "eu1")
	p.requireAbsent(t, "courier_node_up", "node", "eu2")
	p.requireValue(t, 1, "courier_node_state", "node", "eu2", "state", "unknown")
	p.requireValue(t, 1, "courier_node_up", "node", "eu3")

	s.set(supervise.DatabaseState{Name: "shop", State: "ready"})
	p = s.scrape(t)
	require.NotContains(t, p.body, `node="eu2"`)
	require.NotContains(t, p.body, "latin")
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	var stuck error
	databases := []supervise.Database{{Name: "shop", DSN: "password=topsecret"}, {Name: "stock", DSN: "password=topsecret"}, {Name: "new"}}
	s := startSidecar(t, Config{Databases: databases, Live: func() error { return stuck }},
		supervise.DatabaseState{Name: "shop", State: "ready"},
		supervise.DatabaseState{Name: "stock", State: "missing", SQLState: "3F000", Since: time.Unix(1e9, 0),
			Error: "extension pg_courier is not installed", Hint: "Run CREATE EXTENSION pg_courier CASCADE."})

	status, body := s.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok\n", body)
	stuck = errors.New("the loop of database shop has not moved for 1m0s")
	status, body = s.get(t, "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, stuck.Error()+"\n", body)

	status, body = s.get(t, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NotContains(t, body, "topsecret")
	var answer readiness
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.False(t, answer.Ready)
	require.Len(t, answer.NotReady, 2)
	require.Equal(t, "stock", answer.NotReady[0].Database)
	require.Equal(t, "missing", answer.NotReady[0].State)
	require.Equal(t, "3F000", answer.NotReady[0].SQLState)
	require.Contains(t, answer.NotReady[0].Hint, "CREATE EXTENSION")
	require.Equal(t, "connecting", answer.NotReady[1].State)

	s.set(supervise.DatabaseState{Name: "shop", State: "ready"}, supervise.DatabaseState{Name: "stock", State: "ready"},
		supervise.DatabaseState{Name: "new", State: "ready"})
	status, body = s.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready": true}`, body)
}

func TestServe(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, listener, Config{States: func() []supervise.DatabaseState { return nil }})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: collectedIn}
	for _, request := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"GET", "/healthz", 200}, {"GET", "/readyz", 200},
		{"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/debug/vars", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, "http://"+listener.Addr().String()+request.path, bytes.NewReader(nil))
		require.NoError(t, err)
		response, err := client.Do(r)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, request.status, response.StatusCode, "%s %s", request.method, request.path)
	}
	cancel()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(collectedIn):
		t.Fatal("Serve has not ended")
	}
	require.ErrorIs(t, listener.Close(), net.ErrClosed, "Serve has left it open")

	err = Serve(t.Context(), listener, Config{States: func() []supervise.DatabaseState { return nil }})
	require.ErrorContains(t, err, "serve metrics on "+listener.Addr().String())
}
