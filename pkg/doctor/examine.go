package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// Config says what to examine.
type Config struct {
	Databases []Database
	Version   string // of the program; one that is no version is not compared
	Limits    Limits // the zero value of each is the standard one

	// Warnings are what was found when the settings were read: passwords that
	// others can read.
	Warnings []string

	distant bool          // tests: take this host's own connections for those of a network
	connect time.Duration // bounds connecting to a database, and from there to a node
}

// Database is a source database. Its DSN appears in no finding.
type Database struct {
	Name string
	DSN  string
}

// Limits are from where on something is worth a finding.
type Limits struct {
	ClockOffset     time.Duration // between source and node
	LongTransaction time.Duration // age of a transaction on the source
	Lag             time.Duration // of a subscription that nothing seems to ship
	Held            time.Duration // age of what one that is not shipped holds in the queue
	QueueBytes      int64
	ConnectionsLeft int
}

var standardLimits = Limits{
	ClockOffset:     time.Second,
	LongTransaction: time.Hour,
	Lag:             5 * time.Minute,
	Held:            24 * time.Hour,
	QueueBytes:      10 << 30,
	ConnectionsLeft: 5,
}

func (l Limits) withStandards() Limits {
	standard(&l.ClockOffset, standardLimits.ClockOffset)
	standard(&l.LongTransaction, standardLimits.LongTransaction)
	standard(&l.Lag, standardLimits.Lag)
	standard(&l.Held, standardLimits.Held)
	standard(&l.QueueBytes, standardLimits.QueueBytes)
	standard(&l.ConnectionsLeft, standardLimits.ConnectionsLeft)
	return l
}

func standard[T comparable](limit *T, value T) {
	var zero T
	if *limit == zero {
		*limit = value
	}
}

// Bounds of what is waited for.
const (
	connectTimeout = 15 * time.Second // Config.connect, unless told
	nodeTimeout    = 2 * time.Minute  // all questions to one node
	sourceTimeout  = 2 * time.Minute  // all questions to a source alone
	nodesAtOnce    = 4                // of one database
)

// Run examines the databases, all at once, and their nodes.
func Run(ctx context.Context, config Config) *Report {
	config.Limits = config.Limits.withStandards()
	standard(&config.connect, connectTimeout)
	found := make([][]Finding, len(config.Databases))
	var group sync.WaitGroup
	for i, database := range config.Databases {
		group.Go(func() { found[i] = examineDatabase(ctx, &config, database) })
	}
	group.Wait()
	all := examineSettings(&config)
	for _, findings := range found {
		all = append(all, findings...)
	}
	return newReport(config.Version, all)
}

// examineSettings passes on what was found when they were read.
func examineSettings(config *Config) []Finding {
	e := &examination{config: config}
	for _, warning := range config.Warnings {
		e.record("password", Finding{Severity: Warning, Message: warning,
			Why:    "Who has the password can do to the database what courier can.",
			Remedy: "Put it into a password file (~/.pgpass, or passfile= in the connection string) that only its owner may read."})
	}
	if len(config.Warnings) == 0 {
		e.record("password", Finding{Severity: OK, Message: "no password is given where others can read it"})
	}
	return e.findings
}

// examination collects what is found in one place: a database, or a node.
type examination struct {
	config   *Config
	limits   Limits
	database string
	node     string
	session  *session.PGX
	findings []Finding
	over     bool // the session or the node is gone: no further questions
}

// check asks a question. Nothing found is recorded as fine, an error as a
// finding.
func (e *examination) check(ctx context.Context, name, fine string, ask func(context.Context) ([]Finding, error)) {
	if e.over {
		return
	}
	findings, err := ask(ctx)
	for _, f := range findings {
		e.record(name, f)
	}
	if err != nil {
		e.over = e.lost(ctx, err)
		message := "the check could not be made: " + oneLine(err.Error())
		if state := session.SQLState(err); state != "" {
			message += " (" + state + ")"
		}
		e.record(name, Finding{Severity: Warning, Message: message,
			Why: "What it looks for may be there or not."})
	} else if len(findings) == 0 {
		e.record(name, Finding{Severity: OK, Message: fine})
	}
}

// lost reports whether an error means that asking on is in vain.
func (e *examination) lost(ctx context.Context, err error) bool {
	return ctx.Err() != nil || e.session.Closed() || strings.HasPrefix(session.SQLState(err), "08")
}

func (e *examination) record(name string, f Finding) {
	f.Check, f.Database = name, e.database
	if f.Node == "" {
		f.Node = e.node
	}
	e.findings = append(e.findings, f)
}

// open opens a session for reading. Its text is UTF-8, as that of a report.
func (e *examination) open(ctx context.Context, dsn string) (*session.PGX, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.connect)
	defer cancel()
	s, err := session.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if _, err = s.Query(ctx, `SELECT pg_catalog.set_config('client_encoding', 'UTF8', false),
		pg_catalog.set_config('default_transaction_read_only', 'on', false),
		pg_catalog.set_config('statement_timeout', '30s', false)`); err != nil {
		s.Close(ctx)
		return nil, fmt.Errorf("prepare the session: %w", err)
	}
	return s, nil
}

// one runs a query that gives one value, in JSON, on the source.
func (e *examination) one(ctx context.Context, into any, sql string, args ...any) error {
	text, ok, err := session.Value(ctx, e.session, sql, args...)
	if err != nil || !ok {
		return err
	}
	return decode(text, into)
}

func decode(text string, into any) error {
	// a database in SQL_ASCII may send anything
	if err := json.Unmarshal([]byte(strings.ToValidUTF8(text, "\uFFFD")), into); err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// literal quotes a text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
