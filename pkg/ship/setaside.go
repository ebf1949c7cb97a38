package ship

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/wire"
)

// What a letter may hold: its changes are read into memory as one JSON text.
const (
	mostLetterChanges = 10000
	mostLetterBytes   = 16 << 20 // of queued messages
)

// mostKeys bounds the rows of all letters of a subscription that wait: they are
// held in memory.
const mostKeys = 100000

// errAside ends a drain that has stored a letter in the caller's transaction.
var errAside = errors.New("a transaction was set aside, and is passed when that has been committed")

// setAside stores the transaction at fault as a letter to be passed next. It
// returns the StopError instead where the transaction can't be kept.
func (s *Shipper) setAside(ctx context.Context, f *failure, stop *StopError) error {
	content, err := s.readTransaction(ctx, place{stop.K, stop.XID})
	if err != nil {
		return err
	}
	skip := s.letters.skips(place{stop.K, stop.XID})
	if content.tooLarge && !skip {
		stop.Advice = fmt.Sprintf("The transaction is too large for a dead letter, which holds %d changes and %d MB. %s",
			mostLetterChanges, mostLetterBytes>>20, stop.Advice)
		return stop
	}
	if content.commands > 0 && !skip {
		stop.Advice = fmt.Sprintf("The transaction holds DDL, which those behind it rely on, and so is not set aside by itself. %s", stop.Advice)
		return stop
	}
	if s.letters.index.size()+len(content.keys) > mostKeys {
		stop.Advice = fmt.Sprintf("The dead letters that wait change %d rows already, and no more than %d are kept. Retry or discard some. %s",
			s.letters.index.size(), mostKeys, stop.Advice)
		return stop
	}
	cause := f.verbatim
	if cause == nil {
		cause = &session.Error{SQLState: SQLState(f.err), Message: f.err.Error()}
	}
	rows, err := s.session.Query(ctx, `INSERT INTO courier.dead_letter_entry AS d
		(subscription_id, k, xid, state, schema_name, table_name, operation, key, error, error_sqlstate, error_detail, error_hint)
		VALUES ($1::pg_catalog.int4, $2::pg_catalog.pg_lsn, $3::pg_catalog.xid8, 'pending', nullif($4, ''), nullif($5, ''),
		        nullif($6, ''), nullif($7, ''), $8, $9, nullif($10, ''), nullif($11, ''))
		ON CONFLICT ON CONSTRAINT dead_letter_entry_transaction_key DO UPDATE
		SET schema_name = excluded.schema_name, table_name = excluded.table_name, operation = excluded.operation,
		    key = excluded.key, error = excluded.error, error_sqlstate = excluded.error_sqlstate,
		    error_detail = excluded.error_detail, error_hint = excluded.error_hint
		RETURNING dead_letter_id, state, stored_by = pg_catalog.pg_current_xact_id()`,
		strconv.Itoa(s.sub.ID), stop.K.String(), strconv.FormatUint(stop.XID, 10), stop.Schema, stop.Name, stop.Op, stop.Key,
		cause.Message, cause.SQLState, cause.Detail, s.letterAdvice(f.err, stop.Table))
	if err != nil {
		return fmt.Errorf("store a dead letter of %s: %w", s.name, err)
	}
	l := &letter{place: place{stop.K, stop.XID}, state: string(rows[0][1])}
	if l.id, err = strconv.ParseInt(string(rows[0][0]), 10, 64); err != nil {
		return fmt.Errorf("store a dead letter of %s: %w", s.name, err)
	}
	if l.state != letterPending && !skip {
		return stop // to be skipped, when the caller has committed
	}
	if err = s.writeContent(ctx, l, content); err != nil {
		return err
	}
	if s.inTransaction && string(rows[0][2]) == "t" {
		if _, err = s.session.Query(ctx, "SELECT courier.announce_dead_letter($1::pg_catalog.int8, $2)",
			strconv.FormatInt(l.id, 10), s.name); err != nil {
			return err
		}
		return errAside
	}
	// on disk before the target passes it
	if _, err = s.session.Query(ctx, "SELECT courier.flush_wal()"); err != nil {
		return fmt.Errorf("store a dead letter of %s: %w", s.name, err)
	}
	if s.letters.passing == nil {
		s.letters.passing = make(map[place]*letter)
	}
	s.letters.passing[l.place] = l
	return nil
}

// fillLetter reads the changes of a transaction that a person wants skipped.
func (s *Shipper) fillLetter(ctx context.Context, l *letter) error {
	content, err := s.readTransaction(ctx, l.place)
	if err != nil {
		return err
	}
	if err = s.writeContent(ctx, l, content); err != nil {
		return err
	}
	if _, err = s.session.Query(ctx, "SELECT courier.flush_wal()"); err != nil {
		return fmt.Errorf("store dead letter %d: %w", l.id, err)
	}
	return nil
}

func (s *Shipper) writeContent(ctx context.Context, l *letter, c *content) error {
	var changes any
	if !c.tooLarge {
		changes = c.json()
	}
	var relations, ids, keys strings.Builder
	first := true
	for id, key := range c.keys {
		if !first {
			relations.WriteByte(',')
			ids.WriteByte(',')
			keys.WriteByte(',')
		}
		first = false
		relations.WriteString(strconv.FormatUint(uint64(key.relation), 10))
		ids.WriteString(hex.EncodeToString(id[:]))
		if key.whole {
			keys.WriteString("NULL")
		} else {
			keys.WriteString(arrayElement(key.text))
		}
	}
	err := s.changeLetter(ctx, l, `WITH e AS (
		    UPDATE courier.dead_letter_entry SET change_count = $2::pg_catalog.int8, changes = $3::pg_catalog.jsonb
		    WHERE dead_letter_id = $1::pg_catalog.int8 RETURNING dead_letter_id)
		INSERT INTO courier.dead_letter_key (dead_letter_id, relation, key_id, key)
		SELECT e.dead_letter_id, u.* FROM e, ROWS FROM (unnest($4::pg_catalog.oid[]), unnest($5::pg_catalog.uuid[]),
		    unnest($6::pg_catalog.text[])) AS u
		ON CONFLICT DO NOTHING`, strconv.Itoa(c.count), changes, "{"+relations.String()+"}", "{"+ids.String()+"}", "{"+keys.String()+"}")
	l.filled = err == nil
	return err
}

// arrayElement quotes a text for an array literal.
func arrayElement(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// content is what a transaction did for a subscription.
type content struct {
	count    int
	changes  []byte // of a JSON array, without the brackets
	keys     map[keyID]contentKey
	commands int  // DDL among the changes
	tooLarge bool // to keep, or not in the queue: nothing but the count is given
}

type contentKey struct {
	relation uint32
	text     string
	whole    bool
}

func (c *content) json() []byte {
	return append(append([]byte{'['}, c.changes...), ']')
}

// chunksOf reads a transaction out of the segments of the queue.
const chunksOf = `(SELECT seq, changes, data FROM courier.queue_0 WHERE xid = $1::pg_catalog.xid8 AND k = $2::pg_catalog.pg_lsn
	UNION ALL SELECT seq, changes, data FROM courier.queue_1 WHERE xid = $1::pg_catalog.xid8 AND k = $2::pg_catalog.pg_lsn
	UNION ALL SELECT seq, changes, data FROM courier.queue_2 WHERE xid = $1::pg_catalog.xid8 AND k = $2::pg_catalog.pg_lsn) AS q`

// readTransaction reads what a transaction did for the subscription.
func (s *Shipper) readTransaction(ctx context.Context, at place) (*content, error) {
	xid, k := strconv.FormatUint(at.xid, 10), at.k.String()
	rows, err := s.session.Query(ctx, "SELECT coalesce(pg_catalog.sum(changes), 0), coalesce(pg_catalog.sum(pg_catalog.length(data)), 0) FROM "+
		chunksOf, xid, k)
	if err != nil {
		return nil, fmt.Errorf("read transaction %d: %w", at.xid, err)
	}
	count, err1 := strconv.Atoi(string(rows[0][0]))
	bytes, err2 := strconv.Atoi(string(rows[0][1]))
	if err = errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read transaction %d: %w", at.xid, err)
	}
	// a lost letter's transaction may have left the queue
	if count > mostLetterChanges || bytes > mostLetterBytes || bytes == 0 {
		return &content{count: count, tooLarge: true}, nil
	}
	if rows, err = s.session.Query(ctx, "SELECT seq, data FROM "+chunksOf+" ORDER BY seq", xid, k); err != nil {
		return nil, fmt.Errorf("read transaction %d: %w", at.xid, err)
	}
	c := &content{keys: make(map[keyID]contentKey)}
	look := lookup{s.catalog, ctx}
	decoder := wire.NewDecoder(look)
	for _, row := range rows {
		err := decoder.Decode(row[1], func(ch change.Change) error {
			return c.add(look, &ch, at.xid)
		})
		if err != nil {
			return nil, fmt.Errorf("read transaction %d: %w", at.xid, err)
		}
	}
	return c, nil
}

// add adds a change if the subscription takes it.
func (c *content) add(look lookup, ch *change.Change, xid uint64) error {
	switch ch.Op {
	case change.Event:
		c.begin(ch.Op)
		c.text("channel", ch.Channel)
		c.text("payload", string(ch.Payload))
		c.end()
	case change.DDL:
		if ch.Command.Concerns(look.sets) {
			c.commands++
			c.begin(ch.Op)
			c.text("command", ch.Command.Text)
			c.text("role", ch.Command.Role)
			c.text("search_path", ch.Command.Setting("search_path"))
			c.end()
		}
	case change.Truncate:
		for _, relation := range ch.Truncated {
			if look.wants(relation, ch.Op, xid) {
				c.begin(ch.Op)
				c.table(relation)
				c.flag("restart", ch.Restart)
				c.flag("cascade", ch.Cascade)
				if ch.Where != "" {
					c.text("where", ch.Where)
				}
				c.end()
				c.keys[wholeID(relation.OID)] = contentKey{relation: relation.OID, whole: true}
			}
		}
	default:
		ok, err := look.admit(ch, xid)
		if err != nil {
			return err
		}
		if ok {
			c.row(ch, look.tables[ch.Relation.OID].Filter.Columns)
		}
	}
	return nil
}

func (c *content) row(ch *change.Change, taken map[string]bool) {
	r := ch.Relation
	c.begin(ch.Op)
	c.table(r)
	isKey := func(i int) bool { return r.HasKey() && r.Columns[i].Key }
	take := func(i int) bool { return isKey(i) || taken == nil || taken[r.Columns[i].Name] }
	switch ch.Op {
	case change.Insert, change.Upsert:
		c.columns("new", r, ch.New, take)
	case change.Update:
		before := ch.Old
		if r.WholeRow() {
			c.columns("old", r, before, take)
		} else {
			if before == nil {
				before = ch.New
			}
			c.columns("key", r, before, isKey)
		}
		carried := func(i int) bool {
			if ch.New[i].Kind == change.Unchanged || !take(i) {
				return false
			}
			return !isKey(i) || ch.Old != nil && !sameValue(&ch.New[i], &ch.Old[i])
		}
		c.columns("new", r, ch.New, func(i int) bool { return carried(i) && !ch.New[i].Same })
		c.columns("same", r, ch.New, func(i int) bool { return carried(i) && ch.New[i].Same })
	case change.Delete:
		if r.WholeRow() {
			c.columns("old", r, ch.Old, take)
		} else {
			c.columns("key", r, ch.Old, isKey)
		}
	}
	c.end()
	for _, row := range [][]change.Value{ch.Old, ch.New} {
		if id, ok := rowID(r, row); ok {
			c.keys[id] = contentKey{relation: r.OID, text: rowText(r, row)}
		}
	}
}

// passStatement notes on the target that a unit passes a letter's transaction.
func (s *Shipper) passStatement(l *letter) string {
	return fmt.Sprintf("INSERT INTO courier_target.letter (subscription, k, xid) VALUES ('%s', '%s', '%d') ON CONFLICT DO NOTHING",
		s.sub.ProgressKey, l.place.k, l.place.xid)
}

// finishLetters writes down what a unit that was committed means for letters.
func (s *Shipper) finishLetters(ctx context.Context, unit *piece) error {
	if len(unit.overtakes) > 0 {
		if err := s.finishOvertaking(ctx, unit.overtakes); err != nil {
			return err
		}
	}
	if unit.pass == nil {
		return nil
	}
	return s.markPassed(ctx, unit.pass)
}
