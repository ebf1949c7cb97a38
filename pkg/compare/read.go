package compare

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// span is a range of the key: from low, if it is not nil, up to below high.
type span struct {
	low, high []string
	bucket    int   // its place among the ranges of the scan
	rows      int64 // that it held when it was read last, on the side that had more
}

// row is what is read of a row. Of a table without a key it stands for all rows
// that have the same hash.
type row struct {
	key     []string
	version string
	hash    string
	count   int64
}

// rangeKeys gives the SQL of what falls into ranges, with collations.
func (t *table) rangeKeys(r *relation, hash hashing) []string {
	if t.keyless {
		return []string{hash.of(r.row, 0)}
	}
	keys := make([]string, len(t.keys))
	for i, name := range t.keys {
		keys[i] = identifier(name)
		if t.types[i] == "pg_catalog.text" {
			keys[i] = "pg_catalog.concat(" + keys[i] + ")"
		}
		keys[i] += t.collations[i]
	}
	return keys
}

// bucket gives the SQL of the number of the range that a row falls into.
func (t *table) bucket(s *statement, r *relation, hash hashing, bounds [][]string) string {
	if len(bounds) == 0 {
		return "0"
	}
	keys := t.rangeKeys(r, hash)
	columns := make([][]string, len(keys))
	for i := range columns {
		for _, bound := range bounds {
			columns[i] = append(columns[i], bound[i])
		}
	}
	if len(keys) == 1 {
		return fmt.Sprintf("pg_catalog.width_bucket(%s, (SELECT %s))", keys[0], s.value(textArray(columns[0]), t.types[0]+"[]"))
	}
	// bounds of several columns are records, which must be of the very same types
	var lists, names, of, mine []string
	for i := range keys {
		name := "k" + strconv.Itoa(i)
		lists = append(lists, "pg_catalog.unnest("+s.value(textArray(columns[i]), "pg_catalog.text[]")+")")
		names = append(names, name)
		of = append(of, "("+name+"::"+t.types[i]+")"+t.collations[i])
		mine = append(mine, "("+identifierOrText(t, i)+"::"+t.types[i]+")"+t.collations[i])
	}
	return fmt.Sprintf("pg_catalog.width_bucket(ROW(%s), (SELECT pg_catalog.array_agg(ROW(%s) ORDER BY n) FROM ROWS FROM (%s) WITH ORDINALITY AS b (%s, n)))",
		strings.Join(mine, ", "), strings.Join(of, ", "), strings.Join(lists, ", "), strings.Join(names, ", "))
}

// identifierOrText is a key column as its range is found.
func identifierOrText(t *table, i int) string {
	if t.types[i] == "pg_catalog.text" {
		return "pg_catalog.concat(" + identifier(t.keys[i]) + ")"
	}
	return identifier(t.keys[i])
}

// from gives the FROM and WHERE of a read of a relation, or of a part of it.
func (r *relation) from(part string, conditions ...string) string {
	if part == "" {
		part = r.only + r.name
	}
	if r.where != "" {
		conditions = append(conditions, "("+r.where+")")
	}
	if len(conditions) == 0 {
		return " FROM " + part
	}
	return " FROM " + part + " WHERE " + strings.Join(conditions, " AND ")
}

// within gives the condition that a row is in a span.
func (t *table) within(s *statement, r *relation, hash hashing, in span) []string {
	keys := t.rangeKeys(r, hash)
	var conditions []string
	for _, side := range []struct {
		bound    []string
		operator string
	}{{in.low, ">="}, {in.high, "<"}} {
		if side.bound == nil {
			continue
		}
		values := make([]string, len(keys))
		for i := range keys {
			values[i] = s.value(side.bound[i], t.types[i])
		}
		if len(keys) == 1 {
			conditions = append(conditions, keys[0]+" "+side.operator+" "+values[0])
		} else {
			conditions = append(conditions, "("+strings.Join(keys, ", ")+") "+side.operator+" ("+strings.Join(values, ", ")+")")
		}
	}
	return conditions
}

// summed gives the SQL that counts and sums up what a FROM gives, by the values
// of an expression if there is one. The text of a row is made once.
func (r *relation) summed(hash hashing, by, from string) string {
	group, first := "", ""
	if by != "" {
		first, by, group = "b, ", by+" AS b, ", " GROUP BY b"
	}
	return fmt.Sprintf("SELECT %spg_catalog.count(*), pg_catalog.sum(%s), pg_catalog.sum(%s) FROM (SELECT %s%s AS r%s OFFSET 0) AS q%s",
		first, hash.of("r", 0), hash.of("r", 1), by, r.row, from, group)
}

// buckets lists the numbers of spans.
func buckets(spans []span) string {
	list := make([]string, len(spans))
	for i := range spans {
		list[i] = strconv.Itoa(spans[i].bucket)
	}
	return "{" + strings.Join(list, ",") + "}"
}

// readSums reads the sums of spans from one side. Where an index has them in
// order, each is looked up; else one pass finds them all.
func (c *comparison) readSums(ctx context.Context, t *table, r *relation, spans []span) ([]sums, error) {
	read := make([]sums, len(spans))
	if t.unindexed {
		s := r.place.statement()
		bucket := t.bucket(s, r, c.hash, t.bounds)
		s.WriteString("SELECT b, c, s0, s1 FROM (" + r.summed(c.hash, bucket, r.from("")) + ") AS q (b, c, s0, s1) WHERE b = ANY (" +
			s.value(buckets(spans), "pg_catalog.int4[]") + ")")
		rows, err := ask(ctx, r.place, s, 4)
		if err != nil {
			return nil, err
		}
		places := make(map[string]int, len(spans))
		for i := range spans {
			places[strconv.Itoa(spans[i].bucket)] = i
		}
		for _, row := range rows {
			if read[places[string(row[0])]], err = parseSums(row[1:]); err != nil {
				return nil, err
			}
		}
		return read, nil
	}
	return read, c.each(ctx, t, r, spans, 3, func(s *statement, in span) {
		s.WriteString(r.summed(c.hash, "", r.from("", t.within(s, r, c.hash, in)...)))
	}, func(i int, row session.Row) (err error) {
		read[i], err = parseSums(row)
		return err
	})
}

// each runs a statement for each span: one by one on the source, where that is
// cheap and lets plans be kept, and as one statement on the node.
func (c *comparison) each(ctx context.Context, t *table, r *relation, spans []span, columns int,
	build func(*statement, span), take func(int, session.Row) error) error {
	if r.place == c.source {
		for i := range spans {
			s := r.place.statement()
			build(s, spans[i])
			rows, err := ask(ctx, r.place, s, columns)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := take(i, row); err != nil {
					return err
				}
			}
		}
		return nil
	}
	s := r.place.statement()
	for i := range spans {
		if i > 0 {
			s.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(s, "SELECT %d, q.* FROM (", i)
		build(s, spans[i])
		s.WriteString(") AS q")
	}
	rows, err := ask(ctx, r.place, s, columns+1)
	if err != nil {
		return err
	}
	for _, row := range rows {
		i, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return fmt.Errorf("read ranges of table %s: %w", t.answer.Name, err)
		}
		if err := take(i, row[1:]); err != nil {
			return err
		}
	}
	return nil
}

// listed is what a list has of a row.
func (t *table) listed(r *relation, hash hashing) (inner, outer, group string, columns int) {
	version := "''"
	if r.physical {
		version = "xmin::pg_catalog.text"
	}
	inner = fmt.Sprintf("%s AS r, %s AS v", r.row, version)
	both := fmt.Sprintf("pg_catalog.concat(%s, ' ', %s)", hash.of("r", 0), hash.of("r", 1))
	if t.keyless {
		outer = fmt.Sprintf("%s AS k0, pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(nullif(v, '')::pg_catalog.numeric)), "+
			"pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(%s)), pg_catalog.count(*)", hash.of("r", 0), hash.of("r", 1))
		return inner, outer, " GROUP BY k0", 4
	}
	var keys []string
	for i, name := range t.keys {
		inner += fmt.Sprintf(", pg_catalog.concat(%s) AS k%d", identifier(name), i)
		keys = append(keys, "k"+strconv.Itoa(i))
	}
	if !r.physical {
		version = both
	} else {
		version = "v"
	}
	return inner, strings.Join(keys, ", ") + ", " + version + ", " + both + ", 1", "", len(keys) + 3
}

// parseRow reads a row of what listed names.
func (t *table) parseRow(cells session.Row) (row, error) {
	keys := len(cells) - 3
	r := row{version: string(cells[keys]), hash: string(cells[keys+1])}
	for _, cell := range cells[:keys] {
		r.key = append(r.key, string(cell))
	}
	var err error
	if r.count, err = strconv.ParseInt(string(cells[keys+2]), 10, 64); err != nil {
		return r, fmt.Errorf("read rows of table %s: %w", t.answer.Name, err)
	}
	return r, nil
}

// list reads the rows of spans from one side.
func (c *comparison) list(ctx context.Context, t *table, r *relation, spans []span) ([]row, error) {
	var listed []row
	inner, outer, group, columns := t.listed(r, c.hash)
	take := func(_ int, cells session.Row) error {
		row, err := t.parseRow(cells)
		listed = append(listed, row)
		return err
	}
	if t.unindexed {
		s := r.place.statement()
		bucket := t.bucket(s, r, c.hash, t.bounds)
		s.WriteString("SELECT " + outer + " FROM (SELECT " + inner + r.from("", bucket+" = ANY ("+s.value(buckets(spans), "pg_catalog.int4[]")+")") +
			" OFFSET 0) AS q" + group)
		rows, err := ask(ctx, r.place, s, columns)
		if err != nil {
			return nil, err
		}
		for _, cells := range rows {
			if err := take(0, cells); err != nil {
				return nil, err
			}
		}
		return listed, nil
	}
	return listed, c.each(ctx, t, r, spans, columns, func(s *statement, in span) {
		s.WriteString("SELECT " + outer + " FROM (SELECT " + inner + r.from("", t.within(s, r, c.hash, in)...) + " OFFSET 0) AS q" + group)
	}, take)
}

// lookUp reads the rows of some keys from one side; the result is as long as
// keys, with nil for a row that is not there.
func (c *comparison) lookUp(ctx context.Context, t *table, r *relation, keys [][]string) ([]*row, error) {
	inner, outer, group, columns := t.listed(r, c.hash)
	s := r.place.statement()
	found := make([]*row, len(keys))
	if t.keyless {
		wanted, places := make([]string, len(keys)), make(map[string]int, len(keys))
		for i, key := range keys {
			wanted[i], places[key[0]] = key[0], i
		}
		s.WriteString("SELECT " + outer + " FROM (SELECT " + inner +
			r.from("", c.hash.of(r.row, 0)+" = ANY ("+s.value(textArray(wanted), "pg_catalog.int8[]")+")") + " OFFSET 0) AS q" + group)
		rows, err := ask(ctx, r.place, s, columns)
		if err != nil {
			return nil, err
		}
		for _, cells := range rows {
			row, err := t.parseRow(cells)
			if err != nil {
				return nil, err
			}
			found[places[row.key[0]]] = &row
		}
		return found, nil
	}
	var lists, names, conditions []string
	for i, name := range t.keys {
		values := make([]string, len(keys))
		for j, key := range keys {
			values[j] = key[i]
		}
		lists = append(lists, "pg_catalog.unnest("+s.value(textArray(values), "pg_catalog.text[]")+")")
		names = append(names, "k"+strconv.Itoa(i))
		a := r.column(name)
		column, equal, typ := identifier(name), a.equal, a.typ
		if cast := t.casts[i]; cast != "" {
			equal, typ = "=", cast
			if cast == "pg_catalog.text" {
				column = "pg_catalog.concat(" + column + ")"
			}
		}
		conditions = append(conditions, fmt.Sprintf("%s %s \"pg_courier wanted\".k%d::%s", column, equal, i, typ))
	}
	// In the inner query nothing but the row's own columns goes by a bare name.
	fmt.Fprintf(s, "SELECT n, %s FROM ROWS FROM (%s) WITH ORDINALITY AS \"pg_courier wanted\" (%s, n) CROSS JOIN LATERAL (SELECT %s%s OFFSET 0) AS q",
		qualify(outer, len(t.keys)), strings.Join(lists, ", "), strings.Join(names, ", "), inner, r.from("", conditions...))
	rows, err := ask(ctx, r.place, s, columns+1)
	if err != nil {
		return nil, err
	}
	for _, cells := range rows {
		n, err := strconv.Atoi(string(cells[0]))
		if err != nil {
			return nil, fmt.Errorf("look up rows of table %s: %w", t.answer.Name, err)
		}
		row, err := t.parseRow(cells[1:])
		if err != nil {
			return nil, err
		}
		if twin := found[n-1]; twin != nil {
			row = twin.with(row)
		}
		found[n-1] = &row
	}
	return found, nil
}

// with makes one of two rows that bear the same key, on a node where nothing
// forbids it.
func (r *row) with(other row) row {
	r.version, r.hash, r.count = min(r.version, other.version)+" "+max(r.version, other.version),
		min(r.hash, other.hash)+" "+max(r.hash, other.hash), r.count+other.count
	return *r
}

// qualify tells the keys of a list from those that are looked up.
func qualify(list string, keys int) string {
	for i := range keys {
		name := "k" + strconv.Itoa(i)
		list = strings.Replace(list, name, "q."+name, 1)
	}
	return list
}
