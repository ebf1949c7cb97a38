package ship

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// targetObjects creates what the target needs; it may be run again.
//
//go:embed target.sql
var targetObjects string

// attach connects to the node and finds the subscription's progress there,
// creating what is missing. Without progress the position stays nil: the tables
// are to be copied, and the progress begins with that.
func (s *Shipper) attach(ctx context.Context) error {
	err := s.tryAttach(ctx)
	if state := session.SQLState(err); s.sub != nil && s.link == nil && (state == "42P01" || state == "3F000" || state == "42883") {
		// the node's last other subscription may have taken the bookkeeping along
		err = s.tryAttach(ctx)
	}
	var stop *StopError
	if s.sub == nil || dblink.Classify(err) != dblink.Schema || errors.As(err, &stop) || errors.As(err, new(*GoneError)) {
		return err
	}
	return &StopError{Subscription: s.name, Node: s.sub.Node, Err: err,
		Advice: "Let the role that pg_courier connects as own schema courier_target and its tables there, and read the tables' definitions."}
}

func (s *Shipper) tryAttach(ctx context.Context) error {
	sub, err := Load(ctx, s.session, s.name)
	if err != nil {
		return err
	}
	s.sub = sub
	s.statistics.belongTo(sub.ID)
	if err = s.lock(ctx); err != nil {
		return err
	}
	link, err := dblink.Open(ctx, s.session, "pg_courier_"+strconv.Itoa(sub.ID), sub.Node, sub.Server)
	if err != nil {
		return s.explainConnect(err)
	}
	link.Log = s.log
	defer func() {
		if s.link == nil { // the error is the one to be reported
			_ = link.Close(ctx)
		}
	}()
	if err = s.bootstrap(ctx, link); err != nil {
		return err
	}
	if err = link.Claim(ctx, sub.ProgressKey); err != nil {
		return err
	}
	if err = s.findProgress(ctx, link); err != nil {
		return err
	}
	s.settleDoubt()
	if err = s.requireQueued(ctx, link); err != nil {
		return err
	}
	s.link = link
	s.letters.forget()
	// an earlier call may have shipped and then been rolled back
	s.notes.due = s.notes.due || s.inTransaction && s.position != nil
	// Whoever shipped before may have left it so. What lands first is flushed and
	// noted at once: shippers that die young still let go of the queue.
	s.undurable, s.lastDurable, s.notes.at = true, time.Time{}, time.Time{}
	if err = s.catalog.load(ctx, sub, link); err != nil {
		s.link = nil
		return err
	}
	if err = s.findUncopied(ctx); err != nil {
		s.link = nil
		return err
	}
	if err = s.loadSequences(ctx, link); err != nil {
		s.link = nil
		return err
	}
	s.log.Debug("attached", "subscription", s.name, "node", sub.Node, "position", s.head)
	return nil
}

// explainConnect adds what can be done to a failed connection's error. libpq's
// words, in the detail, name host and reason but never the password.
func (s *Shipper) explainConnect(err error) error {
	switch state := session.SQLState(err); {
	case state == "2F003":
		return &StopError{Subscription: s.name, Node: s.sub.Node, Err: err, Advice: fmt.Sprintf(
			"Who is not a superuser connects with a password only: let pg_hba.conf of node %s ask for one, and set it in the user mapping of server %s.",
			s.sub.Node, identifier(s.sub.Server))}
	case strings.HasPrefix(state, "08"):
		return &connectError{node: s.sub.Node, err: err}
	}
	return err
}

// connectError says that a node can't be reached.
type connectError struct {
	node string
	err  error
}

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// NodeUnreachable reports whether err means that a node can't be reached.
func NodeUnreachable(err error) bool {
	var connect *connectError
	return errors.As(err, &connect)
}

// Hint says what to look at.
func (e *connectError) Hint() string {
	return fmt.Sprintf("Check that the node is up and that its connection options and password are right: SELECT * FROM courier.ping('%s').", e.node)
}

// lock takes the lock that keeps a second shipper waiting.
func (s *Shipper) lock(ctx context.Context) error {
	if s.locked {
		return nil
	}
	function := "pg_catalog.pg_try_advisory_lock"
	if s.inTransaction {
		function = "pg_catalog.pg_try_advisory_xact_lock"
	}
	locked, _, err := session.Value(ctx, s.session, "SELECT "+function+
		"('courier.subscription'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int8::pg_catalog.bit(32)::pg_catalog.int4, $1::pg_catalog.int4)",
		strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("lock subscription %s: %w", s.name, err)
	}
	if locked != "t" {
		return &BusyError{Subscription: s.name}
	}
	s.locked = true
	return nil
}

// existingObjects says whether schema courier_target is complete and whether all
// of it belongs to the connection's own role or to a superuser: a function that
// somebody else has put there would run with that role's rights. Catalogs answer
// that even to a role that may not use the schema.
const existingObjects = `SELECT (SELECT count(*) = 7 FROM pg_catalog.pg_proc p
	 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
	 WHERE n.nspname = 'courier_target' AND p.proname IN ('check_deferred', 'check_types', 'check_updated', 'compact', 'hold_position', 'retry', 'truncate_with')),
	(SELECT pg_catalog.string_agg(DISTINCT r.rolname::pg_catalog.text, ', ')
	 FROM (SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'courier_target'
	       UNION ALL SELECT p.proowner FROM pg_catalog.pg_proc p
	       WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'courier_target')
	       UNION ALL SELECT c.relowner FROM pg_catalog.pg_class c
	       WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'courier_target')) AS o
	 JOIN pg_catalog.pg_roles r ON r.oid = o.owner
	 WHERE NOT r.rolsuper AND r.rolname <> current_user)`

// TargetObjects says whether a node has all of schema courier_target, and which
// roles own some of it that should not, separated by commas.
func TargetObjects(ctx context.Context, link *dblink.Link) (complete bool, strangers string, err error) {
	rows, err := link.Query(ctx, existingObjects, 2)
	if err != nil {
		return false, "", err
	}
	return string(rows[0][0]) == "t", string(rows[0][1]), nil
}

// bootstrap creates what the target needs.
func (s *Shipper) bootstrap(ctx context.Context, link *dblink.Link) error {
	complete, strangers, err := TargetObjects(ctx, link)
	if err != nil {
		return err
	}
	if strangers != "" {
		return &StopError{Subscription: s.name, Node: s.sub.Node,
			Advice: "Let one role own schema courier_target and all in it, the one that pg_courier connects as.",
			Err: &session.Error{SQLState: "42501", Message: fmt.Sprintf(
				"schema courier_target or an object in it belongs to role %s", strangers)}}
	}
	if complete {
		return nil
	}
	if err = link.Exec(ctx, targetObjects); err != nil {
		if dblink.Classify(err) == dblink.Schema {
			return &StopError{Subscription: s.name, Node: s.sub.Node,
				Advice: "Let the role that pg_courier connects as create a schema there: GRANT CREATE ON DATABASE ... TO ...",
				Err:    fmt.Errorf("create schema courier_target: %w", err)}
		}
		return fmt.Errorf("create schema courier_target on node %s: %w", s.sub.Node, err)
	}
	return nil
}

// findProgress reads where the target is, or starts it there when nothing is to
// be copied.
func (s *Shipper) findProgress(ctx context.Context, link *dblink.Link) error {
	asked := s.now()
	rows, err := s.progress(ctx, link)
	if err != nil {
		return err
	}
	s.sizer.way = s.now().Sub(asked)
	if len(rows) == 0 && !s.sub.CopyData {
		start, err := s.flushedPosition(ctx, literal(s.sub.Start))
		if err != nil {
			return fmt.Errorf("take the position of the start: %w", err)
		}
		if err = link.Exec(ctx, s.startProgress(start)+" ON CONFLICT DO NOTHING"); err != nil {
			return err
		}
		if rows, err = s.progress(ctx, link); err != nil {
			return err
		}
	}
	s.head, s.position = "", nil
	if len(rows) == 0 {
		return nil
	}
	if string(rows[0][1]) != s.sub.Source {
		return &StopError{Subscription: s.name, Node: s.sub.Node, NeedsResync: true,
			Advice: "If this database was cloned or restored, drop the subscription here and create it again.",
			Err: &session.Error{SQLState: "55000", Message: fmt.Sprintf(
				"the progress on the node belongs to another source (%s; this is %s)", rows[0][1], s.sub.Source)}}
	}
	position, err := change.ParsePosition(string(rows[0][0]))
	if err != nil {
		return fmt.Errorf("read the progress on node %s: %w", s.sub.Node, err)
	}
	if err = s.requireOwnPast(ctx, position, string(rows[0][2]), string(rows[0][3])); err != nil {
		return err
	}
	s.head, s.position = string(rows[0][0]), &position
	return nil
}

// progress reads the subscription's row on the target, if there is one.
func (s *Shipper) progress(ctx context.Context, link *dblink.Link) ([]session.Row, error) {
	return link.Query(ctx, "SELECT position, source_system, source_timeline, source_flushed"+
		" FROM courier_target.progress WHERE subscription = "+literal(s.sub.ProgressKey), 4)
}

// requireOwnPast makes sure that this source has been where the target is. One
// that was restored, or a standby promoted without the last transactions, has
// not: it uses the same transaction ids for other work, which would be taken for
// shipped. Its timeline tells, and one that is brought back without a new timeline,
// from a copy of its files, for as long as it has not come as far again.
func (s *Shipper) requireOwnPast(ctx context.Context, position change.Position, timeline, flushed string) error {
	xmax := position.Start.Xmax
	if position.End != nil {
		xmax = max(xmax, position.End.Xmax)
	}
	own, _, err := session.Value(ctx, s.session, `SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) >= $1::pg_catalog.xid8
		AND courier.has_passed($2::pg_catalog.int4, $3::pg_catalog.pg_lsn)`,
		strconv.FormatUint(xmax, 10), timeline, flushed)
	if err != nil {
		return fmt.Errorf("compare the progress on node %s: %w", s.sub.Node, err)
	}
	if own != "t" {
		return &StopError{Subscription: s.name, Node: s.sub.Node, NeedsResync: true,
			Advice: "The source was restored or failed over to a state before the node's. Drop the subscription, empty its tables on the node, and create it again with copy_data => true.",
			Err:    &session.Error{SQLState: "55000", Message: "the node is ahead of this source"}}
	}
	return nil
}

// flushedPosition is the position that an expression gives, all that has been
// committed being on disk.
func (s *Shipper) flushedPosition(ctx context.Context, expression string) (change.Position, error) {
	rows, err := s.session.Query(ctx, "SELECT "+expression+", timeline, flushed FROM courier.flush_wal()")
	if err != nil {
		return change.Position{}, err
	}
	position, err1 := change.ParsePosition(string(rows[0][0]))
	timeline, err2 := strconv.ParseInt(string(rows[0][1]), 10, 32)
	location, err3 := change.ParseLSN(string(rows[0][2]))
	position.Flushed = change.WAL{Timeline: uint32(timeline), Location: location}
	return position, errors.Join(err1, err2, err3)
}

func (s *Shipper) startProgress(at change.Position) string {
	return fmt.Sprintf("INSERT INTO courier_target.progress (subscription, source_node, source_system, position, source_timeline,"+
		" source_flushed) VALUES (%s, %s, %s, %s, %d, '%s')", literal(s.sub.ProgressKey), literal(s.sub.LocalNode),
		literal(s.sub.Source), literal(at.String()), int32(at.Flushed.Timeline), at.Flushed.Location)
}

// reload takes over a changed configuration, between intervals.
func (s *Shipper) reload(ctx context.Context) error {
	sub, err := Load(ctx, s.session, s.name)
	if err != nil {
		return err
	}
	if sub.ID != s.sub.ID || sub.ProgressKey != s.sub.ProgressKey || sub.Server != s.sub.Server {
		return errReplaced
	}
	s.sub = sub
	if err = s.catalog.load(ctx, sub, s.link); err != nil {
		return err
	}
	if err = s.loadSequences(ctx, s.link); err != nil {
		return err
	}
	return s.findUncopied(ctx)
}
