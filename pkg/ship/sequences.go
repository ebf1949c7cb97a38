package ship

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// sequencesEvery is how often the sequences of an idle subscription are read.
const sequencesEvery = time.Second

// sequences are those of a subscription that the node has too.
type sequences struct {
	all         []*sequence
	array       string // their OIDs
	definitions int64  // changes when a sequence does, or one comes or goes
	readAt      time.Time
	blind       map[uint32][]*sequence // that could not be read, by table
	missing     string                 // added, and not on the node: DDL in the queue may bring it
}

// tell is a statement of a piece that sets a sequence.
type tell struct {
	sequence *sequence
	value    int64
}

// loadSequences finds the subscription's sequences on both sides. Nothing may be
// in flight.
func (s *Shipper) loadSequences(ctx context.Context, link *dblink.Link) error {
	before := make(map[uint32]*sequence)
	for _, q := range s.sequences.all {
		before[q.oid] = q
	}
	s.sequences = sequences{}
	text, _, err := session.Value(ctx, s.session, "SELECT courier.read_sequences('{}')")
	if err != nil {
		return fmt.Errorf("read the sequences: %w", err)
	}
	if s.sequences.definitions, err = strconv.ParseInt(strings.Trim(text, "{}"), 10, 64); err != nil {
		return fmt.Errorf("read the sequences: %w", err)
	}
	here, err := s.session.Query(ctx, `SELECT v.relation, pg_catalog.format('%I.%I', v.schema_name, v.sequence_name), v.added, v.table_relation, v.column_name,
		    q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle, t.node_sequence
		FROM courier.subscription_sequence v
		JOIN pg_catalog.pg_sequence q ON q.seqrelid = v.relation
		LEFT JOIN courier.sequence_state t ON t.subscription_id = v.subscription_id AND t.relation = v.relation
		WHERE v.subscription_id = $1::pg_catalog.int4 ORDER BY v.relation`, strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("read the sequences: %w", err)
	}
	if len(here) == 0 {
		return nil
	}
	there, err := s.nodeSequences(ctx, link)
	if err != nil {
		return err
	}
	var oids []string
	for _, row := range here {
		name := string(row[1])
		found, ok := there[string(row[0])]
		if !ok {
			if string(row[2]) == "t" {
				s.sequences.missing = name
			}
			s.log.Debug("the node has no sequence for the column", "subscription", s.name, "node", s.sub.Node, "sequence", name)
			continue
		}
		if found[5] != nil {
			return s.mayNotSet(found)
		}
		q, err := newSequence(name, row, found)
		if err != nil {
			return fmt.Errorf("read sequence %s: %w", name, err)
		}
		if old := before[q.oid]; old != nil { // what was used is not forgotten
			q.read, q.last, q.called = old.read, old.last, old.called
			q.from, q.since, q.use = old.from, old.since, old.use
		}
		s.notes.due = s.notes.due || !q.noted && s.position != nil
		s.sequences.all = append(s.sequences.all, q)
		oids = append(oids, string(row[0]))
	}
	s.sequences.array = "{" + strings.Join(oids, ",") + "}"
	return s.readNode(ctx, link)
}

// requireSequences makes sure, when all DDL has arrived that may create them, that
// the node has the sequences that were added.
func (s *Shipper) requireSequences(ctx context.Context) error {
	if s.sequences.missing == "" {
		return nil
	}
	if err := s.loadSequences(ctx, s.link); err != nil {
		return err
	}
	if s.sequences.missing != "" {
		return s.noSequence(s.sequences.missing)
	}
	return nil
}

// nodeSequences asks the node which of its sequences are meant, by the OIDs of
// the source's.
func (s *Shipper) nodeSequences(ctx context.Context, link *dblink.Link) (map[string]session.Row, error) {
	question, _, err := session.Value(ctx, s.session, "SELECT courier.node_sequences_query($1::pg_catalog.int4)", strconv.Itoa(s.sub.ID))
	if err != nil {
		return nil, fmt.Errorf("read the sequences: %w", err)
	}
	found := make(map[string]session.Row)
	if question == "" { // taken out since they were listed
		return found, nil
	}
	rows, err := link.Query(ctx, question, 7)
	if err != nil {
		return nil, fmt.Errorf("look at the node's sequences: %w", err)
	}
	for _, row := range rows {
		found[string(row[0])] = row
	}
	return found, nil
}

func newSequence(name string, here, there session.Row) (*sequence, error) {
	q := &sequence{name: name, node: string(there[1]), column: string(here[4]), cycle: string(here[9]) == "t", lost: true}
	var errs []error
	number := func(text []byte) int64 {
		n, err := strconv.ParseInt(string(text), 10, 64)
		errs = append(errs, err)
		return n
	}
	q.oid = uint32(number(here[0]))
	if here[3] != nil {
		q.table = uint32(number(here[3]))
	}
	q.own = progression{number(here[5]), number(here[6]), number(here[7])}
	q.cache = uint64(number(here[8]))
	q.there = progression{number(there[2]), number(there[3]), number(there[4])}
	q.noted = string(here[10]) == q.node
	return q, errors.Join(errs...)
}

// readNode reads where the node's sequences are.
func (s *Shipper) readNode(ctx context.Context, link *dblink.Link) error {
	const atOnce = 100
	for from := 0; from < len(s.sequences.all); from += atOnce {
		some := s.sequences.all[from:min(from+atOnce, len(s.sequences.all))]
		var sql strings.Builder
		for i, q := range some {
			if i > 0 {
				sql.WriteString(" UNION ALL ")
			}
			fmt.Fprintf(&sql, "SELECT %d, last_value, is_called FROM %s", i, q.node)
		}
		rows, err := link.Query(ctx, sql.String(), 3)
		if err != nil {
			return fmt.Errorf("look at the node's sequences: %w", err)
		}
		for _, row := range rows {
			i, err1 := strconv.Atoi(string(row[0]))
			last, err2 := strconv.ParseInt(string(row[1]), 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("look at the node's sequences: %w", err)
			}
			q := some[i]
			q.base, q.reached, q.lost = last, last, string(row[2]) != "t"
		}
	}
	return nil
}

// readSequences reads the source's sequences. Called behind the snapshot that
// ends an interval, before any of it is sent; nothing may be in flight.
func (s *Shipper) readSequences(ctx context.Context) error {
	if len(s.sequences.all) == 0 && s.now().Sub(s.sequences.readAt) < sequencesEvery {
		return nil // whether there is one now
	}
	for attempt := 0; ; attempt++ {
		array := s.sequences.array
		if array == "" {
			array = "{}"
		}
		text, _, err := session.Value(ctx, s.session, "SELECT courier.read_sequences($1::pg_catalog.oid[])", array)
		if err != nil {
			return fmt.Errorf("read the sequences: %w", err)
		}
		values := strings.Split(strings.Trim(text, "{}"), ",")
		if values[0] != strconv.FormatInt(s.sequences.definitions, 10) && attempt == 0 {
			if err = s.loadSequences(ctx, s.link); err != nil {
				return err
			}
			continue
		}
		now := s.now()
		s.sequences.readAt = now
		clear(s.sequences.blind)
		for i, q := range s.sequences.all {
			if values[1+2*i] == "NULL" {
				s.sequences.noteBlind(q)
				continue
			}
			last, err := strconv.ParseInt(values[1+2*i], 10, 64)
			if err != nil {
				return fmt.Errorf("read the sequences: %w", err)
			}
			q.observe(last, values[2+2*i] == "1", now)
		}
		return nil
	}
}

// noteBlind notes that a sequence is locked exclusively.
func (s *sequences) noteBlind(q *sequence) {
	if q.table == 0 {
		return
	}
	if s.blind == nil {
		s.blind = make(map[uint32][]*sequence)
	}
	s.blind[q.table] = append(s.blind[q.table], q)
}

// see looks at a row of a table some of whose sequences could not be read.
func (s *sequences) see(c *change.Change) {
	for _, q := range s.blind[c.Relation.OID] {
		for i := range c.New {
			if c.Relation.Columns[i].Name != q.column || c.New[i].Kind != change.Text {
				continue
			}
			if value, err := strconv.ParseInt(string(c.New[i].Data), 10, 64); err == nil {
				q.see(value)
			}
		}
	}
}

// restarted notes that a TRUNCATE ... RESTART IDENTITY of a table goes to the node.
func (s *sequences) restarted(table uint32) {
	for _, q := range s.all {
		if q.table == table {
			q.lost = true
		}
	}
}

// dues are the sequences that the node has to be told about.
func (s *sequences) dues() []tell {
	var dues []tell
	for _, q := range s.all {
		if value, due := q.due(); due {
			dues = append(dues, tell{q, value})
		}
	}
	return dues
}

// appendTells adds to a piece that ends a unit what sets the sequences that are
// due. An error of the commit counts as one of the last statement, which must
// not be one of these.
func (s *Shipper) appendTells(p *piece) {
	p.tellsFrom = len(p.script.Statements())
	p.tells = s.sequences.dues()
	for _, t := range p.tells {
		p.script.Append(t.sequence.statement(t.value))
		t.sequence.told(t.value)
		s.notes.due = true
	}
	if len(p.tells) > 0 {
		p.script.Append("SELECT 1")
	}
}

// giveUp says that tells have not, or perhaps not, come true.
func giveUp(tells []tell) {
	for _, t := range tells {
		t.sequence.lost = true
	}
}

// tellIdle sets sequences that have moved though nothing was shipped.
func (s *Shipper) tellIdle(ctx context.Context) error {
	if s.position == nil || s.now().Sub(s.sequences.readAt) < sequencesEvery && len(s.sequences.dues()) == 0 {
		return nil
	}
	if err := s.readSequences(ctx); err != nil {
		return err
	}
	return s.tellNow(ctx)
}

// tellNow sets the sequences that are due, in the transaction that is open on the
// node or one of their own.
func (s *Shipper) tellNow(ctx context.Context) error {
	p := &piece{script: s.nextScript(), places: []place{{}}}
	s.appendTells(p)
	if len(p.tells) == 0 {
		return nil
	}
	if err := s.link.Send(ctx, p.script.Bytes()); err != nil {
		giveUp(p.tells)
		return err
	}
	outcome, err := s.link.Wait(ctx)
	if err == nil && outcome.Err != nil {
		if err = outcome.Err; dblink.Classify(err) == dblink.Schema || dblink.Classify(err) == dblink.Data {
			err = s.stopAtSequence(&failure{piece: p, completed: outcome.Completed, err: err})
		}
	}
	if err != nil {
		giveUp(p.tells)
	}
	return err
}

// tellAt returns the tell that a failure is about, or nil.
func (f *failure) tellAt() *tell {
	if n := f.completed - f.piece.tellsFrom; f.completed >= 0 && n >= 0 && n < len(f.piece.tells) {
		return &f.piece.tells[n]
	}
	return nil
}

// stopAtSequence reports a sequence that can't be set.
func (s *Shipper) stopAtSequence(f *failure) *StopError {
	stop := &StopError{Subscription: s.name, Node: s.sub.Node, Err: f.err, Advice: Hint(f.err)}
	if t := f.tellAt(); t != nil {
		stop.Err = fmt.Errorf("set sequence %s on the node: %w", t.sequence.node, f.err)
		stop.Advice = fmt.Sprintf("Make sequence %s on node %s like %s of the source, or take that out: %s Shipping then goes on by itself.",
			t.sequence.node, s.sub.Node, t.sequence.name, removeSequence(t.sequence.name))
	}
	return stop
}

// removeSequence is the call that leaves a sequence alone.
func removeSequence(name string) string {
	return "SELECT courier.replication_set_remove_sequence(..., " + literal(name) + ")."
}

// noSequence reports an added sequence that the node does not have.
func (s *Shipper) noSequence(name string) *StopError {
	return &StopError{Subscription: s.name, Node: s.sub.Node,
		Advice: fmt.Sprintf("Create it there, or take it out: %s Shipping then goes on by itself.", removeSequence(name)),
		Err:    &session.Error{SQLState: "42P01", Message: fmt.Sprintf("sequence %s does not exist on the node", name)}}
}

// mayNotSet reports a sequence of the node that the role may not set.
func (s *Shipper) mayNotSet(found session.Row) *StopError {
	return &StopError{Subscription: s.name, Node: s.sub.Node,
		Advice: fmt.Sprintf("On the node: GRANT %s TO %s; Shipping then goes on by itself.", found[5], identifier(string(found[6]))),
		Err:    &session.Error{SQLState: "42501", Message: fmt.Sprintf("permission denied for sequence %s of the node", found[1])}}
}

// writeSequences writes down for people what the node was told.
func (s *Shipper) writeSequences(ctx context.Context) error {
	var oids, nodes, here, there []string
	var written []*sequence
	for _, q := range s.sequences.all {
		if q.noted {
			continue
		}
		oids, nodes = append(oids, strconv.FormatUint(uint64(q.oid), 10)), append(nodes, arrayElement(q.node))
		last, reached := "NULL", "NULL"
		if q.read && q.called {
			last = strconv.FormatInt(q.last, 10)
		}
		if !q.lost {
			reached = strconv.FormatInt(q.reached, 10)
		}
		here, there, written = append(here, last), append(there, reached), append(written, q)
	}
	if len(written) == 0 {
		return nil
	}
	_, err := s.session.Query(ctx, `INSERT INTO courier.sequence_state AS t
		(subscription_id, relation, node_sequence, source_value, node_value)
		SELECT $1::pg_catalog.int4, u.* FROM ROWS FROM (unnest($2::pg_catalog.oid[]), unnest($3::pg_catalog.text[]),
		    unnest($4::pg_catalog.int8[]), unnest($5::pg_catalog.int8[])) AS u
		ON CONFLICT ON CONSTRAINT sequence_state_pkey DO UPDATE
		SET node_sequence = excluded.node_sequence, source_value = excluded.source_value,
		    node_value = excluded.node_value, updated_at = pg_catalog.clock_timestamp()`,
		strconv.Itoa(s.sub.ID), "{"+strings.Join(oids, ",")+"}", "{"+strings.Join(nodes, ",")+"}",
		"{"+strings.Join(here, ",")+"}", "{"+strings.Join(there, ",")+"}")
	if err != nil {
		return fmt.Errorf("note the sequences of subscription %s: %w", s.name, err)
	}
	for _, q := range written {
		q.noted = true
	}
	return nil
}
