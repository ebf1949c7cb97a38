package ship

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// A transaction that is applied after a letter was set aside may change rows
// that the letter changes. Its values are the later ones, and a retry of the
// letter must not replace them. So the unit that applies such a transaction says
// in its target transaction which rows of which letters it has overtaken
// (courier_target.overtaken). The source has a copy, for people.

// keyID identifies a row, or a whole table, by a hash: keys may be long.
type keyID [16]byte

// letterKey is a row that a letter changes.
type letterKey struct {
	letter    *letter
	id        keyID
	relation  uint32
	whole     bool // all rows of the table: the letter truncates it
	overtaken bool
}

// keyIndex finds the keys of letters that wait. Empty, it costs a comparison a
// change.
type keyIndex struct {
	rows   map[keyID][]*letterKey
	tables map[uint32][]*letterKey
}

func (x *keyIndex) size() int {
	n := 0
	for _, keys := range x.tables {
		n += len(keys)
	}
	return n
}

func (x *keyIndex) add(key *letterKey) {
	if x.tables == nil {
		x.rows, x.tables = make(map[keyID][]*letterKey), make(map[uint32][]*letterKey)
	}
	x.rows[key.id] = append(x.rows[key.id], key)
	x.tables[key.relation] = append(x.tables[key.relation], key)
}

// touch calls f for the keys of rows that a change touches.
func (x *keyIndex) touch(c *change.Change, f func(*letterKey)) {
	switch c.Op {
	case change.Event:
	case change.Truncate:
		for _, relation := range c.Truncated {
			for _, key := range x.tables[relation.OID] {
				f(key)
			}
		}
	default:
		if x.tables[c.Relation.OID] == nil {
			return
		}
		for _, key := range x.rows[wholeID(c.Relation.OID)] {
			f(key)
		}
		for _, row := range [][]change.Value{c.Old, c.New} {
			if id, ok := rowID(c.Relation, row); ok {
				for _, key := range x.rows[id] {
					f(key)
				}
			}
		}
	}
}

// wholeID stands for all rows of a table.
func wholeID(relation uint32) keyID {
	return hashKey(relation, nil)
}

// rowID identifies a row by its key, or by all its columns if only they do; not
// ok if there is no row or nothing identifies it. Columns go by name, so that a
// row keeps its identity when columns are added or dropped.
func rowID(relation *change.Relation, row []change.Value) (id keyID, ok bool) {
	keys := relation.Keys()
	if row == nil || len(keys) == 0 {
		return id, false
	}
	sorted := append([]int(nil), keys...)
	sort.Slice(sorted, func(a, b int) bool { return relation.Columns[sorted[a]].Name < relation.Columns[sorted[b]].Name })
	var text []byte
	for _, i := range sorted {
		for _, part := range [][]byte{[]byte(relation.Columns[i].Name), row[i].Data} {
			text = binary.BigEndian.AppendUint32(text, uint32(len(part)))
			text = append(text, part...)
		}
		text = append(text, byte(row[i].Kind))
	}
	return hashKey(relation.OID, text), true
}

// RowID is the identity that a row has in courier.dead_letter_key, a uuid: of the
// table and of the row's key, by column.
func RowID(relation uint32, columns, key []string) string {
	row := make([]change.Value, len(columns))
	of := &change.Relation{OID: relation, Columns: make([]change.Column, len(columns))}
	for i := range columns {
		of.Columns[i] = change.Column{Name: columns[i], Key: true}
		row[i] = change.Value{Kind: change.Text, Data: []byte(key[i])}
	}
	id, _ := rowID(of, row)
	return hex.EncodeToString(id[:])
}

func hashKey(relation uint32, text []byte) (id keyID) {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, relation), text...))
	copy(id[:], sum[:])
	return id
}

// overtaking says that a transaction has changed a row of a letter.
type overtaking struct {
	key *letterKey
	by  place
}

// overtake notes what a change of a transaction overtakes, in the piece that
// applies it.
func (s *Shipper) overtake(p *piece, c *change.Change, by place) {
	s.letters.index.touch(c, func(key *letterKey) {
		if key.overtaken || !key.letter.inForce || key.letter.place == by {
			return
		}
		if p.overtakes == nil {
			p.overtakes = make(map[*letterKey]place)
		}
		if _, known := p.overtakes[key]; !known {
			p.overtakes[key] = by
		}
	})
}

// overtakenByCopy is what the copy of a table overtakes: all of it. The place is
// the first transaction that the copy does not see.
func (s *Shipper) overtakenByCopy(relation uint32, end change.Position) map[*letterKey]place {
	overtakes := make(map[*letterKey]place)
	for _, key := range s.letters.index.tables[relation] {
		if key.letter.inForce && !key.overtaken {
			overtakes[key] = place{xid: end.Start.Xmax}
		}
	}
	return overtakes
}

// overtakeStatement tells the target.
func (s *Shipper) overtakeStatement(overtakes map[*letterKey]place) string {
	var sql strings.Builder
	sql.WriteString("INSERT INTO courier_target.overtaken (subscription, k, xid, key_id, by_k, by_xid) VALUES ")
	first := true
	for key, by := range overtakes {
		if !first {
			sql.WriteString(", ")
		}
		first = false
		fmt.Fprintf(&sql, "('%s', '%s', '%d', '%s', '%s', '%d')", s.sub.ProgressKey, key.letter.place.k, key.letter.place.xid,
			hex.EncodeToString(key.id[:]), by.k, by.xid)
	}
	sql.WriteString(" ON CONFLICT DO NOTHING")
	return sql.String()
}

// finishOvertaking takes over what a unit that was committed has overtaken.
func (s *Shipper) finishOvertaking(ctx context.Context, overtakes map[*letterKey]place) error {
	var done []overtaking
	for key, by := range overtakes {
		key.overtaken = true
		done = append(done, overtaking{key, by})
	}
	if s.notes.paused {
		s.letters.generation = 0 // the target tells later
		return nil
	}
	return s.noteOvertaken(ctx, done)
}

// noteOvertaken writes the source's copy.
func (s *Shipper) noteOvertaken(ctx context.Context, done []overtaking) error {
	for len(done) > 0 {
		some := done[:min(len(done), 1000)]
		done = done[len(some):]
		columns := make([][]string, 4)
		for _, o := range some {
			for i, text := range []string{strconv.FormatInt(o.key.letter.id, 10), hex.EncodeToString(o.key.id[:]),
				o.by.k.String(), strconv.FormatUint(o.by.xid, 10)} {
				columns[i] = append(columns[i], text)
			}
		}
		args := make([]any, len(columns))
		for i, column := range columns {
			args[i] = "{" + strings.Join(column, ",") + "}"
		}
		if _, err := s.session.Query(ctx, `UPDATE courier.dead_letter_key AS y SET overtaken_k = u.k, overtaken_xid = u.xid
			FROM ROWS FROM (unnest($1::pg_catalog.int8[]), unnest($2::pg_catalog.uuid[]), unnest($3::pg_catalog.pg_lsn[]),
			    unnest($4::pg_catalog.xid8[])) AS u (id, key_id, k, xid)
			WHERE y.dead_letter_id = u.id AND y.key_id = u.key_id AND y.overtaken_xid IS NULL`, args...); err != nil {
			return fmt.Errorf("write down what overtook dead letters of %s: %w", s.name, err)
		}
	}
	return nil
}

// loadKeys reads the keys of the letters that wait, and which of them have been
// overtaken.
func (s *Shipper) loadKeys(ctx context.Context) error {
	s.letters.index = keyIndex{}
	waiting := make(map[int64]*letter)
	for _, l := range s.letters.all {
		l.keys = nil
		switch l.state {
		case letterOpen, letterSkipped, letterRetrying:
			l.inForce = true
			waiting[l.id] = l
		case letterPending, letterSkipping:
			waiting[l.id] = l
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	rows, err := s.session.Query(ctx, `SELECT y.dead_letter_id, y.relation, y.key_id, y.key IS NULL, y.overtaken_xid IS NOT NULL
		FROM courier.dead_letter_key y JOIN courier.dead_letter_entry d USING (dead_letter_id)
		WHERE d.subscription_id = $1::pg_catalog.int4 AND d.state NOT IN ('applied', 'discarded')`, strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("read the rows of the dead letters of %s: %w", s.name, err)
	}
	noted := make(map[*letterKey]bool)
	for _, row := range rows {
		id, err1 := strconv.ParseInt(string(row[0]), 10, 64)
		relation, err2 := strconv.ParseUint(string(row[1]), 10, 32)
		key := &letterKey{relation: uint32(relation), whole: string(row[3]) == "t"}
		var err3 error
		key.id, err3 = parseKeyID(row[2])
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("read the rows of the dead letters of %s: %w", s.name, err)
		}
		if key.letter = waiting[id]; key.letter == nil {
			continue
		}
		key.letter.keys = append(key.letter.keys, key)
		s.letters.index.add(key)
		noted[key] = string(row[4]) == "t"
	}
	return s.loadOvertaken(ctx, noted)
}

// loadOvertaken asks the target which keys have been overtaken, and tells the
// source what it does not know.
func (s *Shipper) loadOvertaken(ctx context.Context, noted map[*letterKey]bool) error {
	rows, err := s.link.Query(ctx, "SELECT k, xid, key_id, by_k, by_xid FROM courier_target.overtaken WHERE subscription = "+
		literal(s.sub.ProgressKey), 5)
	if err != nil {
		return err
	}
	var unknown []overtaking
	for _, row := range rows {
		at, err1 := parsePlace(row[0], row[1])
		id, err2 := parseKeyID(row[2])
		by, err3 := parsePlace(row[3], row[4])
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("read the letters on node %s: %w", s.sub.Node, err)
		}
		for _, key := range s.letters.index.rows[id] {
			if key.letter.place == at {
				key.overtaken = true
				if !noted[key] {
					unknown = append(unknown, overtaking{key, by})
				}
			}
		}
	}
	for key, known := range noted {
		if known && !key.overtaken { // the node was restored
			if err := s.changeLetter(ctx, key.letter, `UPDATE courier.dead_letter_key SET overtaken_k = NULL, overtaken_xid = NULL
				WHERE dead_letter_id = $1::pg_catalog.int8 AND key_id = $2::pg_catalog.uuid`, hex.EncodeToString(key.id[:])); err != nil {
				return err
			}
		}
	}
	return s.noteOvertaken(ctx, unknown)
}

// parseKeyID parses a uuid.
func parseKeyID(text []byte) (id keyID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "-", ""))
	if err == nil && len(b) != len(id) {
		err = fmt.Errorf("parse %q: it is no uuid", text)
	}
	copy(id[:], b)
	return id, err
}
