package ship

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// letterField is a column of a change of a letter.
type letterField struct {
	part, column string
	value        []byte // nil for NULL
}

// letterElement is one change of a letter.
type letterElement struct {
	op, schema, table string
	channel, payload  string
	restart, cascade  bool
	where             string
	fields            []letterField
}

// readLetter reads the changes to send. An error with SQLSTATE 55000 says that
// they don't fit the tables any more. The JSON is taken apart by the database,
// whose encoding it is in.
func (s *Shipper) readLetter(ctx context.Context, l *letter) ([]change.Change, error) {
	rows, err := s.session.Query(ctx, `SELECT e.n, e.c ->> 'op', e.c ->> 'schema', e.c ->> 'table', e.c ->> 'channel', e.c ->> 'payload',
		    e.c ->> 'restart', e.c ->> 'cascade', e.c ->> 'where', f.part, f.key, f.value
		FROM courier.dead_letter_entry d
		CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(coalesce(d.edited, d.changes)) WITH ORDINALITY AS e (c, n)
		LEFT JOIN LATERAL (SELECT p.part, v.key, v.value
		    FROM unnest(ARRAY['key', 'old', 'new', 'same']) AS p (part)
		    CROSS JOIN LATERAL pg_catalog.jsonb_each_text(e.c -> p.part) AS v) AS f ON true
		WHERE d.dead_letter_id = $1::pg_catalog.int8
		ORDER BY e.n`, strconv.FormatInt(l.id, 10))
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", l.id, err)
	}
	var elements []letterElement
	last := ""
	for _, row := range rows {
		if string(row[0]) != last {
			last = string(row[0])
			elements = append(elements, letterElement{op: string(row[1]), schema: string(row[2]), table: string(row[3]),
				channel: string(row[4]), payload: string(row[5]), restart: string(row[6]) == "true", cascade: string(row[7]) == "true",
				where: string(row[8])})
		}
		if e := &elements[len(elements)-1]; row[9] != nil {
			e.fields = append(e.fields, letterField{part: string(row[9]), column: string(row[10]), value: row[11]})
		}
	}
	return s.rebuild(ctx, elements)
}

// sourceTable is a table as it is now on the source.
type sourceTable struct {
	oid      uint32
	wholeRow bool // only all columns identify a row
	columns  []string
	keys     map[string]bool
	computed map[string]bool             // keys that are generated columns
	shapes   map[string]*change.Relation // by the columns an element gives
}

// ops are the operations by the names that letters give them.
var ops = map[string]change.Op{}

func init() {
	for _, op := range []change.Op{change.Insert, change.Update, change.Delete, change.Upsert, change.Truncate, change.Event} {
		ops[op.String()] = op
	}
}

// rebuild makes changes of the elements.
func (s *Shipper) rebuild(ctx context.Context, elements []letterElement) ([]change.Change, error) {
	tables := make(map[tableName]*sourceTable)
	changes := make([]change.Change, 0, len(elements))
	for n := range elements {
		e := &elements[n]
		if e.op == change.DDL.String() {
			return nil, &session.Error{SQLState: "55000",
				Message: "the dead letter holds DDL, which is not sent again",
				Hint: "Do on the node by hand what it asks for; then retry the letter with its other changes, " +
					"if it has any: retry_dead_letter(id, changes). Or discard it."}
		}
		op := ops[e.op]
		if op == change.Event {
			changes = append(changes, change.Change{Op: op, Channel: e.channel, Payload: []byte(e.payload)})
			continue
		}
		name := tableName{e.schema, e.table}
		if tables[name] == nil {
			var err error
			if tables[name], err = s.sourceTable(ctx, name); err != nil {
				return nil, err
			}
		}
		c, err := tables[name].change(op, name, e)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// sourceTable looks a table of the subscription up by its name.
func (s *Shipper) sourceTable(ctx context.Context, name tableName) (*sourceTable, error) {
	rows, err := s.session.Query(ctx, `SELECT t.relation, a.attname, coalesce(a.attname = ANY (courier.key_columns(c.oid)), false),
		    c.relreplident = 'f' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
		        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate), a.attgenerated <> ''
		FROM courier.subscription_table t JOIN pg_catalog.pg_class c ON c.oid = t.relation
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		    AND (a.attgenerated = '' OR a.attname = ANY (courier.key_columns(c.oid)))
		WHERE t.subscription_id = $1::pg_catalog.int4 AND t.schema_name = $2 AND t.table_name = $3`,
		strconv.Itoa(s.sub.ID), name.schema, name.name)
	if err != nil {
		return nil, fmt.Errorf("look at table %s.%s: %w", name.schema, name.name, err)
	}
	if len(rows) == 0 {
		return nil, &session.Error{SQLState: "55000",
			Message: fmt.Sprintf("table %s.%s is not in the subscription's replication sets any more", name.schema, name.name),
			Hint:    "Add it again, send other changes, or discard the letter."}
	}
	oid, err := strconv.ParseUint(string(rows[0][0]), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("look at table %s.%s: %w", name.schema, name.name, err)
	}
	t := &sourceTable{oid: uint32(oid), wholeRow: string(rows[0][3]) == "t",
		keys: make(map[string]bool), computed: make(map[string]bool), shapes: make(map[string]*change.Relation)}
	for _, row := range rows {
		column := string(row[1])
		t.columns = append(t.columns, column)
		if string(row[2]) == "t" {
			t.keys[column] = true
			t.computed[column] = string(row[4]) == "t"
		}
	}
	return t, nil
}

// relation is the table with the columns that an element gives, in their order.
func (t *sourceTable) relation(name tableName, columns []string) *change.Relation {
	id := strings.Join(columns, "\x00")
	r := t.shapes[id]
	if r == nil {
		r = &change.Relation{OID: t.oid, Schema: name.schema, Name: name.name, Identity: 'd'}
		if t.wholeRow {
			r.Identity = 'f'
		}
		for _, column := range columns {
			r.Columns = append(r.Columns, change.Column{Name: column, Key: t.keys[column], Generated: t.computed[column]})
		}
		t.shapes[id] = r
	}
	return r
}

// change makes a change of an element.
func (t *sourceTable) change(op change.Op, name tableName, e *letterElement) (change.Change, error) {
	if op == change.Truncate {
		return change.Change{Op: op, Restart: e.restart, Cascade: e.cascade, Where: e.where,
			Truncated: []*change.Relation{t.relation(name, t.columns)}}, nil
	}
	at := make(map[string]int)
	var columns []string
	for _, field := range e.fields {
		if _, known := at[field.column]; !known {
			at[field.column] = len(columns)
			columns = append(columns, field.column)
		}
	}
	if op == change.Update || op == change.Delete {
		for key := range t.keys {
			if _, known := at[key]; !known && !t.wholeRow {
				return change.Change{}, &session.Error{SQLState: "55000",
					Message: fmt.Sprintf("the %s of a row of table %s.%s does not give column %s of its key", e.op, e.schema, e.table, key),
					Hint:    "The table's key has changed since. Send other changes, or discard the letter."}
			}
		}
	}
	c := change.Change{Op: op, Relation: t.relation(name, columns)}
	before, after := make([]change.Value, len(columns)), make([]change.Value, len(columns))
	for i := range columns {
		before[i].Kind, after[i].Kind = change.Null, change.Unchanged
	}
	moved := t.wholeRow
	for _, field := range e.fields {
		i := at[field.column]
		value := change.Value{Kind: change.Text, Data: field.value}
		if field.value == nil {
			value.Kind = change.Null
		}
		switch field.part {
		case "key":
			before[i] = value
			if after[i].Kind == change.Unchanged {
				after[i] = value
			}
		case "old":
			before[i] = value
		case "same":
			value.Same = true
			after[i] = value
		case "new":
			after[i] = value
			if t.keys[field.column] && !sameValue(&before[i], &value) {
				moved = true
			}
		}
	}
	if op != change.Delete {
		c.New = after
	}
	if op == change.Delete || op == change.Update && moved {
		c.Old = before
	}
	return c, nil
}
