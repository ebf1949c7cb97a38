package chunk

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// KeyColumn is a column of a unique key.
type KeyColumn struct {
	Name string // quoted
	Type string // as in SQL, without a modifier
	// Collate says that the order of the type's values depends on a collation,
	// which another database may not have or may sort differently. Ranges of such a
	// key mean the same on both sides only byte by byte, with COLLATE "C", for which
	// the key's index is of no use.
	Collate bool
}

// KeyRange is the rows whose key comes behind After, up to and including UpTo; nil
// for no bound. The values are text, in the order of the key's columns.
type KeyRange struct{ After, UpTo []string }

// Key is a unique key of a table that ranges are cut along.
type Key struct {
	Table   string // quoted, as it is read: with ONLY if need be
	Columns []KeyColumn
}

// LoadKey reads the columns of a unique index of a table. Both are OIDs.
func LoadKey(ctx context.Context, query Query, index string) ([]KeyColumn, error) {
	rows, err := query(ctx, fmt.Sprintf(`SELECT pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, -1),
		a.attcollation <> 0
		FROM pg_catalog.pg_index AS i
		CROSS JOIN pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k (attnum, n)
		JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indexrelid = (%s)::pg_catalog.oid AND k.n <= i.indnkeyatts
		ORDER BY k.n`, index), 3)
	if err != nil {
		return nil, fmt.Errorf("read the columns of a key: %w", err)
	}
	columns := make([]KeyColumn, len(rows))
	for i, row := range rows {
		columns[i] = KeyColumn{Name: string(row[0]), Type: string(row[1]), Collate: string(row[2]) == "t"}
	}
	return columns, nil
}

// Next returns the range of about so many rows behind a key, nil for the first.
// The last one has no UpTo; it may be empty. It reads as many entries of the key's
// index as the range has rows.
func (k *Key) Next(ctx context.Context, query Query, after []string, rows int) (KeyRange, error) {
	var order, selected []string
	for i := range k.Columns {
		order = append(order, k.Columns[i].ordered())
		selected = append(selected, k.Columns[i].Name+"::pg_catalog.text")
	}
	found, err := query(ctx, "SELECT "+strings.Join(selected, ", ")+" FROM "+k.Table+" WHERE "+
		k.Condition(KeyRange{After: after})+" ORDER BY "+strings.Join(order, ", ")+
		" OFFSET "+strconv.Itoa(max(rows-1, 0))+" LIMIT 1", len(k.Columns))
	if err != nil {
		return KeyRange{}, fmt.Errorf("find the next range of keys of %s: %w", k.Table, err)
	}
	r := KeyRange{After: after}
	if len(found) > 0 {
		r.UpTo = texts(found[0])
	}
	return r, nil
}

func texts(row session.Row) []string {
	list := make([]string, len(row))
	for i, value := range row {
		list[i] = string(value)
	}
	return list
}

// Condition is the range in SQL.
func (k *Key) Condition(r KeyRange) string {
	var parts []string
	if r.After != nil {
		parts = append(parts, k.row()+" > "+k.literal(r.After))
	}
	if r.UpTo != nil {
		parts = append(parts, k.row()+" <= "+k.literal(r.UpTo))
	}
	if parts == nil {
		return "true"
	}
	return strings.Join(parts, " AND ")
}

func (k *Key) row() string {
	list := make([]string, len(k.Columns))
	for i := range k.Columns {
		list[i] = k.Columns[i].ordered()
	}
	return "(" + strings.Join(list, ", ") + ")"
}

func (k *Key) literal(values []string) string {
	list := make([]string, len(k.Columns))
	for i := range k.Columns {
		list[i] = "'" + strings.ReplaceAll(values[i], "'", "''") + "'::" + k.Columns[i].Type
	}
	return "(" + strings.Join(list, ", ") + ")"
}

func (c *KeyColumn) ordered() string {
	if c.Collate {
		return c.Name + ` COLLATE "C"`
	}
	return c.Name
}
