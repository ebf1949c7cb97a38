package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// Config says what to compare.
type Config struct {
	Session      session.Session // in READ COMMITTED, of a role that administers pg_courier
	Subscription string
	Tables       []uint32 // OIDs; none: all tables of the subscription
	MaxKeys      int      // of a table, in the answer
	Timeout      time.Duration
	Repair       Repair
	// Unshipped is how long nobody may ship the subscription while the node is behind;
	// 0 for half a minute.
	Unshipped time.Duration
	// InTransaction says that the session is in a transaction that ends behind
	// Run: locks that a repair takes stay until then, so it comes last.
	InTransaction bool
	// Progress, if set, is called now and then.
	Progress func(Progress)
}

// Repair says what is done about rows that differ.
type Repair int

// What can be done about them.
const (
	Nothing Repair = iota
	Print          // say which statements would ship them again
	Resend         // ship them again
)

// Progress is how far the comparison of a table is.
type Progress struct {
	Table    string
	Number   int // of this table, from 1
	Tables   int
	Step     string // scan, narrow or settle
	Part     float64
	Found    int64 // rows that differ
	Finished bool  // with this table
}

// Table is the answer about one table.
type Table struct {
	OID          uint32
	Name         string // schema and name, quoted where needed
	Rows         int64  // that were compared
	Missing      int64  // on the node
	Extra        int64
	Different    int64
	Unsettled    int64 // changed too often to be compared
	DeadLettered int64 // of those that differ, rows of dead letters
	Keys         []Difference
	NotShown     int64 // differences beyond Keys
	Resent       int64
	Statements   []string
	Note         string
}

// Differences is how many rows differ.
func (t *Table) Differences() int64 { return t.Missing + t.Extra + t.Different }

// Kind says how a row differs.
type Kind string

// The kinds of difference.
const (
	Missing   Kind = "missing"
	Extra     Kind = "extra"
	Different Kind = "different"
)

// Difference is a row that differs. Texts are in the database's encoding.
type Difference struct {
	Columns    []string // of the key
	Key        []string // their values
	Kind       Kind
	DeadLetter bool
}

// comparison is one Run.
type comparison struct {
	Config
	sub    *ship.Subscription
	source *source
	target *target
	hash   hashing
	tables []*table
}

// standardTimeout is how long the node may take to get to a position.
const standardTimeout = 5 * time.Minute

// queryLimit bounds a query of the source: a piece of a scan, or a sort of keys.
const queryLimit = time.Hour

// Run compares, and repairs if that is asked for. It gives the answers about
// the tables in order of their names.
func Run(ctx context.Context, config Config) ([]Table, error) {
	if config.Timeout <= 0 {
		config.Timeout = standardTimeout
	}
	if config.Unshipped <= 0 {
		config.Unshipped = standardUnshipped
	}
	c := &comparison{Config: config}
	ctx = session.WithLimit(ctx, queryLimit)
	if err := c.begin(ctx); err != nil {
		return nil, errors.Join(err, c.end(ctx))
	}
	answers := make([]Table, len(c.tables))
	for i, t := range c.tables {
		if err := c.compareTable(ctx, t, i+1); err != nil {
			return nil, errors.Join(fmt.Errorf("compare table %s: %w", t.answer.Name, c.explain(t, err)), c.end(ctx))
		}
	}
	for i, t := range c.tables {
		if err := c.repairRest(ctx, t); err != nil {
			return nil, errors.Join(err, c.end(ctx))
		}
		answers[i] = t.answer
	}
	return answers, c.end(ctx)
}

// begin reads the configuration, connects to the node and describes the tables.
func (c *comparison) begin(ctx context.Context) error {
	if err := c.requireSession(ctx); err != nil {
		return err
	}
	var err error
	if c.sub, err = ship.Load(ctx, c.Session, c.Subscription); err != nil {
		return err
	}
	if err = c.requireStreaming(ctx); err != nil {
		return err
	}
	wanted, err := c.wanted(ctx)
	if err != nil {
		return err
	}
	c.source = &source{session: c.Session}
	link, err := dblink.Open(ctx, c.Session, "pg_courier_compare_"+strconv.Itoa(c.sub.ID), c.sub.Node, c.sub.Server)
	if err != nil {
		return withHint(err, fmt.Sprintf("Check that the node is up and that its connection options and password are right: SELECT * FROM courier.ping('%s').", c.sub.Node))
	}
	c.target = &target{link: link, node: c.sub.Node}
	if err = link.Exec(ctx, targetSettings); err != nil {
		return err
	}
	if c.hash, err = c.chooseHash(ctx); err != nil {
		return err
	}
	for _, t := range wanted {
		described, err := c.describe(ctx, t)
		if err != nil {
			return err
		}
		c.tables = append(c.tables, described)
	}
	return nil
}

// targetSettings turn the session on the node, which was made for small writes,
// into one for large reads.
const targetSettings = `SET default_transaction_read_only = on;
	SET enable_seqscan = on; SET enable_bitmapscan = on; SET statement_timeout = '1h'`

// requireSession refuses what would make the answers wrong.
func (c *comparison) requireSession(ctx context.Context) error {
	if _, err := c.Session.Query(ctx, "SELECT courier.require_administrator(), courier.require_read_committed('compare')"); err != nil {
		return err
	}
	if !c.InTransaction {
		// a session's rows have bytea as bytes; here its text counts
		if _, err := c.Session.Query(ctx, "SELECT pg_catalog.set_config('bytea_output', 'hex', false)"); err != nil {
			return fmt.Errorf("prepare the session: %w", err)
		}
		return nil
	}
	_, written, err := session.Value(ctx, c.Session, "SELECT pg_catalog.pg_current_xact_id_if_assigned()")
	if err != nil {
		return fmt.Errorf("look at the transaction: %w", err)
	}
	if written {
		return &session.Error{SQLState: "25001", Message: "compare cannot run in a transaction that has written",
			Detail: "What it has written is not on the node before it commits.",
			Hint:   "Commit first."}
	}
	return nil
}

// wanted lists the tables to compare.
func (c *comparison) wanted(ctx context.Context) ([]*ship.Table, error) {
	var wanted []*ship.Table
	for i := range c.sub.Tables {
		if t := &c.sub.Tables[i]; c.Tables == nil || slices.Contains(c.Tables, t.OID) {
			wanted = append(wanted, t)
		}
	}
	for _, oid := range c.Tables {
		if slices.ContainsFunc(wanted, func(t *ship.Table) bool { return t.OID == oid }) {
			continue
		}
		name, _, err := session.Value(ctx, c.Session, "SELECT $1::pg_catalog.oid::pg_catalog.regclass::pg_catalog.text", strconv.FormatUint(uint64(oid), 10))
		if err != nil {
			return nil, fmt.Errorf("look for the tables to compare: %w", err)
		}
		return nil, &session.Error{SQLState: "55000",
			Message: fmt.Sprintf("table %s is in no replication set of subscription %q", name, c.Subscription),
			Hint: fmt.Sprintf("SELECT table_name FROM courier.subscription_table WHERE subscription_name = '%s' lists those that are.",
				c.Subscription)}
	}
	return wanted, nil
}

// end closes the connection to the node.
func (c *comparison) end(ctx context.Context) error {
	if c.target == nil {
		return nil
	}
	return c.target.link.Close(ctx)
}

// compareTable takes one table through the three steps.
func (c *comparison) compareTable(ctx context.Context, t *table, number int) error {
	t.progress = func(step string, part float64, finished bool) {
		if c.Progress != nil {
			c.Progress(Progress{Table: t.answer.Name, Number: number, Tables: len(c.tables), Step: step, Part: part,
				Found: t.answer.Differences(), Finished: finished})
		}
	}
	spans, err := c.scan(ctx, t)
	if err != nil {
		return err
	}
	if err = c.narrow(ctx, t, spans); err != nil {
		return err
	}
	if err = c.settle(ctx, t); err != nil {
		return err
	}
	c.conclude(t)
	t.progress("settle", 1, true)
	return nil
}

// explain replaces an error about a value that the node's type does not read: its
// words quote the value.
func (c *comparison) explain(t *table, err error) error {
	if state := session.SQLState(err); len(t.converted) == 0 || len(state) != 5 || state[:2] != "22" {
		return err
	}
	return &session.Error{SQLState: "42804",
		Message: fmt.Sprintf("a value can't be compared, because the type of its column on node %s does not read it", c.sub.Node),
		Hint: fmt.Sprintf("Give the columns the same types on both sides, with ALTER TABLE %s ALTER COLUMN ... TYPE ...: %s.",
			t.answer.Name, strings.Join(t.converted, "; "))}
}

// withHint gives an error of the database without a hint one.
func withHint(err error, hint string) error {
	var db *session.Error
	if errors.As(err, &db) && db.Hint == "" {
		db.Hint = hint
	}
	return err
}
