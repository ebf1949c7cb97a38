package metrics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/pg-courier/pg_courier/pkg/supervise"
)

// healthz says whether the process should go on; databases don't matter.
func healthz(w http.ResponseWriter, live func() error) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if live != nil {
		if err := live(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready    bool       `json:"ready"`
	NotReady []notReady `json:"not_ready,omitempty"`
}

// notReady says why a database keeps the sidecar from being ready.
type notReady struct {
	Database string     `json:"database"`
	State    string     `json:"state"`
	Since    *time.Time `json:"since,omitempty"`
	Error    string     `json:"error,omitempty"`
	SQLState string     `json:"sqlstate,omitempty"`
	Hint     string     `json:"hint,omitempty"`
}

// readyz names the databases that are not ready.
func readyz(w http.ResponseWriter, config Config) {
	states := make(map[string]supervise.DatabaseState)
	for _, d := range config.States() {
		states[d.Name] = d
	}
	var answer readiness
	for _, configured := range config.Databases {
		d, known := states[configured.Name]
		if d.State == "ready" {
			continue
		}
		n := notReady{Database: configured.Name, State: d.State, Error: d.Error, SQLState: d.SQLState, Hint: d.Hint}
		if !known {
			n.State = "connecting" // the supervisor has only just begun
		}
		if !d.Since.IsZero() {
			n.Since = &d.Since
		}
		answer.NotReady = append(answer.NotReady, n)
	}
	answer.Ready = len(answer.NotReady) == 0

	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // an error says that the asker has gone
}
