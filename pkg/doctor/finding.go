package doctor

import "fmt"

// Severity says how bad a finding is.
type Severity int

// Severities. OK: a check found nothing. Info: worth knowing. Warning: works,
// and is slow, unsafe or about to fail. Error: something does not work.
const (
	OK Severity = iota
	Info
	Warning
	Error
)

var severityNames = [...]string{"ok", "info", "warning", "error"}

// String implements fmt.Stringer.
func (s Severity) String() string { return severityNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, name := range severityNames {
		if name == string(text) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("severity %q is unknown", text)
}

// Where a remedy's statements are run.
const (
	OnSource = "source" // in the source database
	OnNode   = "node"   // in the node's database
)

// Finding is an answer of a check.
type Finding struct {
	Check        string   `json:"check"`
	Severity     Severity `json:"severity"`
	Database     string   `json:"database,omitempty"` // left out: about the settings
	Node         string   `json:"node,omitempty"`
	Subscription string   `json:"subscription,omitempty"`
	Table        string   `json:"table,omitempty"` // quoted as in SQL
	Message      string   `json:"message"`
	Why          string   `json:"why,omitempty"`
	// Remedy is SQL, one statement a line, if RunOn is set, else advice.
	Remedy string `json:"remedy,omitempty"`
	RunOn  string `json:"run_on,omitempty"`
}

// Report is the outcome of an examination. The findings are first those about the
// settings, then in the order of the databases as given and of the nodes' names.
type Report struct {
	Version  string         `json:"version"` // of the program
	Worst    Severity       `json:"worst"`
	Counts   map[string]int `json:"counts"` // by severity
	Findings []Finding      `json:"findings"`
}

// Exit codes of `courier doctor`.
const (
	Healthy   = 0 // nothing worse than info
	Ailing    = 1 // warnings
	Seriously = 2 // errors; a wrong call has this one too
)

// ExitCode says how it all looks, by the worst there is.
func (r *Report) ExitCode() int {
	switch r.Worst {
	case Error:
		return Seriously
	case Warning:
		return Ailing
	}
	return Healthy
}

func newReport(version string, findings []Finding) *Report {
	r := &Report{Version: version, Counts: make(map[string]int), Findings: findings}
	for _, name := range severityNames {
		r.Counts[name] = 0
	}
	for i := range findings {
		r.Worst = max(r.Worst, findings[i].Severity)
		r.Counts[findings[i].Severity.String()]++
	}
	return r
}
