package copydata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Merging a table that holds rows already: before its copy begins, at the position
// it begins at, the node's rows are gone through by ranges of pages there. The key
// and a digest of each row come here. Rows that are not on the source are deleted,
// and those that differ are written anew. Then the target has some of the source's
// rows, as after a chunk, and the copy goes its ordinary way and adds what is
// missing. Rows that are equal are not touched.

// mergeBytes is how much of the node's table is compared at once.
const mergeBytes = 1 << 20

// lookLimit is how long it may take to find rows of the source by their keys.
const lookLimit = time.Hour

// MergeJobs cuts the node's table into ranges to be compared.
func (t *Table) MergeJobs(ctx context.Context, node chunk.Query) ([]*Job, error) {
	leaves, err := chunk.Leaves(ctx, node, fmt.Sprintf(`SELECT c.oid FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s`,
		literal(t.Schema), literal(t.Name)))
	if err != nil {
		return nil, err
	}
	var jobs []*Job
	for i := range leaves {
		for _, r := range leaves[i].Pages(mergeBytes) {
			jobs = append(jobs, &Job{table: t, merge: &leaves[i], pages: r})
		}
	}
	return jobs, nil
}

// digest is an expression for all values of a row, the same on both sides if they
// are; columns are qualified with t.
func (t *Table) digest() string {
	values := make([]string, 0, len(t.Selected))
	for _, i := range t.Target.Rows(render.Fail, nil, "").Columns {
		switch {
		case t.Binary[i]:
			values = append(values, "pg_catalog.md5(t."+t.Selected[i]+"::pg_catalog.bytea)")
		case t.Varying[i]:
			values = append(values, "pg_catalog.md5(t."+t.Selected[i]+"::pg_catalog.text)")
		default:
			values = append(values, "t."+t.Selected[i]+"::pg_catalog.text")
		}
	}
	return "pg_catalog.md5(ARRAY[" + strings.Join(values, ", ") + "]::pg_catalog.text)"
}

// merge compares a range of the node's rows, and makes it some of the source's.
func (l *lane) merge(ctx context.Context, j *Job) error {
	j.blocked = 0
	keys, places, gone, err := l.compare(ctx, j)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		if err = l.exec(ctx, j.table.deletion(keys, gone)); err != nil {
			return err
		}
	}
	anew := j.table.Target.Frozen()
	if anew && len(places) > 0 && j.table.Held {
		return &HeldError{Table: j.table, Reason: "a column of rows that differ is GENERATED ALWAYS AS IDENTITY there, which no update can set"}
	}
	var differing []int
	jobs := j.table.rowJobs(places, func(numbers []int) string {
		differing = append(differing, numbers...)
		if anew {
			return j.table.deletion(keys, numbers)
		}
		return ""
	})
	defer func() { l.job = j }()
	for _, rows := range jobs {
		rows.anew = anew
		err = l.replace(ctx, rows)
		switch {
		case !isInTheWay(err):
		case j.table.Held:
			err = l.replaceSingly(ctx, j, rows)
		default:
			// The copy brings them when what is in the way is gone.
			return l.exec(ctx, j.table.deletion(keys, differing))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isInTheWay reports whether an error says that another row of the node, which is
// not compared yet, is in the way of a constraint.
func isInTheWay(err error) bool {
	state := session.SQLState(err)
	return state == "23505" || state == "23P01"
}

// replace writes rows that differ.
func (l *lane) replace(ctx context.Context, rows *Job) error {
	l.take(rows)
	for {
		done, err := l.step(ctx)
		if isInTheWay(err) {
			if failed := l.link.Exec(ctx, "ROLLBACK"); failed != nil {
				return failed
			}
		}
		if done || err != nil {
			return err
		}
	}
}

// replaceSingly writes those rows that no other is in the way of, and counts the
// others: they are compared again when all of the table has been.
func (l *lane) replaceSingly(ctx context.Context, j, rows *Job) error {
	for left := rows.rows; ; {
		var blocked []string
		for _, place := range left {
			err := l.replace(ctx, &Job{table: rows.table, leaf: rows.leaf, rows: []string{place}})
			if isInTheWay(err) {
				blocked = append(blocked, place)
			} else if err != nil {
				return err
			}
		}
		if len(blocked) == 0 || len(blocked) == len(left) {
			j.blocked += len(blocked)
			return nil
		}
		left = blocked
	}
}

// exec runs a statement at the epoch's position.
func (l *lane) exec(ctx context.Context, sql string) error {
	return l.link.Exec(ctx, "SELECT courier_target.hold_position("+literal(l.copier.config.Key)+", "+literal(l.copier.head)+");\n"+sql)
}

// compare returns the keys of the node's rows, a list a key column, where the
// source has those that differ, and the numbers of those that it does not have.
func (l *lane) compare(ctx context.Context, j *Job) (keys [][]string, differing []Place, gone []int, err error) {
	t := j.table
	var selected, aliases, conditions, same []string
	for n, i := range t.Relation.Keys() {
		alias := fmt.Sprintf("courier_k%d", n)
		selected = append(selected, "t."+t.Selected[i]+"::pg_catalog.text")
		aliases = append(aliases, alias)
		conditions = append(conditions, t.SameKey(i, "k."+alias))
		same = append(same, fmt.Sprintf(`t.%s::pg_catalog.text COLLATE "C" = k.%s`, t.Selected[i], alias))
	}
	from, to := j.pages.Bounds()
	rows, err := l.link.Query(ctx, fmt.Sprintf("SELECT %s, %s FROM ONLY %s AS t WHERE t.ctid >= '%s' AND t.ctid < '%s'",
		strings.Join(selected, ", "), t.digest(), j.merge.Name, from, to), len(selected)+1)
	if err != nil || len(rows) == 0 {
		return nil, nil, nil, err
	}
	keys = make([][]string, len(selected)+1) // the digests are the last
	for _, row := range rows {
		for i, value := range row {
			keys[i] = append(keys[i], string(value))
		}
	}
	args := make([]any, len(keys))
	var lists []string
	for i, list := range keys {
		args[i] = array(list)
		lists = append(lists, fmt.Sprintf("$%d::pg_catalog.text[]", i+1))
	}
	// A key that is equal and written in another way is another one: a row keeps its
	// key where it is written anew. Rows of a partition that has come since the table
	// was planned are not among the source's until it is planned again.
	leaves := make([]string, len(t.leaves))
	for i, each := range t.leaves {
		leaves[i] = strconv.FormatUint(uint64(each.OID), 10)
	}
	found, err := l.session.Query(session.WithLimit(ctx, lookLimit), fmt.Sprintf(`SELECT k.courier_n - 1, t.courier_leaf, t.courier_place
		FROM ROWS FROM (%s) WITH ORDINALITY AS k (%s, courier_digest, courier_n)
		LEFT JOIN (SELECT *, tableoid AS courier_leaf, ctid AS courier_place FROM %s
			WHERE tableoid = ANY ('{%s}'::pg_catalog.oid[])%s) AS t ON %s AND %s
		WHERE t.courier_place IS NULL OR %s <> k.courier_digest`,
		unnested(lists), strings.Join(aliases, ", "), t.From(), strings.Join(leaves, ","), t.Condition, strings.Join(conditions, " AND "),
		strings.Join(same, " AND "), t.digest()), args...)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("compare rows of table %s: %w", t, err)
	}
	for _, row := range found {
		number, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return nil, nil, nil, err
		}
		if row[2] == nil {
			gone = append(gone, number)
			continue
		}
		leaf, err := strconv.ParseUint(string(row[1]), 10, 32)
		if err != nil {
			return nil, nil, nil, err
		}
		differing = append(differing, Place{Leaf: uint32(leaf), Row: string(row[2]), Number: number})
	}
	return keys, differing, gone, nil
}

func unnested(lists []string) string {
	calls := make([]string, len(lists))
	for i, list := range lists {
		calls[i] = "pg_catalog.unnest(" + list + ")"
	}
	return strings.Join(calls, ", ")
}

// From is the table as its rows are read: without those of tables that inherit from it,
// and with those of its partitions. It is planned.
func (t *Table) From() string {
	only := ""
	if t.leaf(t.OID) != nil {
		only = "ONLY "
	}
	return only + quoted(t.Schema) + "." + quoted(t.Name)
}

// SameKey is the condition that a column of the key, of t, has the value that an
// expression gives as text; it may have it in another form.
func (t *Table) SameKey(column int, text string) string {
	return fmt.Sprintf("t.%s %s %s::%s", t.Selected[column], t.Equal[column], text, t.Types[column])
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// deletion deletes the node's rows of some numbers, by their keys, and before them
// what refers to them.
func (t *Table) deletion(keys [][]string, numbers []int) string {
	var sets, conditions []string
	for n, i := range t.Relation.Keys() {
		var list []string
		for _, number := range numbers {
			list = append(list, keys[n][number])
		}
		sets = append(sets, fmt.Sprintf("pg_catalog.unnest(%s::pg_catalog.text[]) AS k%d", literal(string(array(list))), n))
		conditions = append(conditions, t.Target.SameKey(i, fmt.Sprintf("k.k%d", n)))
	}
	only := ""
	if t.Target.Plain() {
		only = "ONLY "
	}
	from, using := only+t.Target.Name()+" AS t", "(SELECT "+strings.Join(sets, ", ")+") AS k"
	var sql strings.Builder
	if len(t.References) > 0 { // whose columns may have no index
		sql.WriteString("SET LOCAL enable_hashjoin = on;\nSET LOCAL enable_seqscan = on;\n")
	}
	for i := range t.References {
		t.References[i].deletions(&sql, "t", from+", "+using, strings.Join(conditions, " AND "), 0)
	}
	sql.WriteString("DELETE FROM " + from + " USING " + using + " WHERE " + strings.Join(conditions, " AND "))
	return sql.String()
}

// Reference is a foreign key of the node, by which rows refer to those of a table.
// Names are quoted. The rows are deleted with those they refer to: their table is
// copied later.
type Reference struct {
	Table               string
	Columns, Referenced []string
	References          []Reference // to that table
}

// deletions appends the deletion of the rows that refer to some of the rows called
// to, those that refer to them first.
func (r *Reference) deletions(sql *strings.Builder, to, from, where string, depth int) {
	own := fmt.Sprintf("r%d", depth)
	for i := range r.Columns {
		where += fmt.Sprintf(" AND %s.%s = %s.%s", own, r.Columns[i], to, r.Referenced[i])
	}
	for i := range r.References {
		r.References[i].deletions(sql, own, from+", "+r.Table+" AS "+own, where, depth+1)
	}
	sql.WriteString("DELETE FROM " + r.Table + " AS " + own + " USING " + from + " WHERE " + where + ";\n")
}

// Keyed reports whether all of some columns belong to the table's key.
func (t *Table) Keyed(names []string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(t.Relation.Columns, func(c change.Column) bool { return c.Key && c.Name == name }) {
			return false
		}
	}
	return true
}

// errMergeCut says that the ranges of a merge were not all compared.
var errMergeCut = errors.New("the merge was interrupted")

// Cut reports whether err means that a merge was told to stop.
func Cut(err error) bool { return errors.Is(err, errMergeCut) }

// HeldError says that rows can't be merged without going for a moment, and that
// others refer to them.
type HeldError struct {
	Table  *Table
	Reason string
}

// Error implements error.
func (e *HeldError) Error() string { return "merge table " + e.Table.String() + ": " + e.Reason }

// Merge does the jobs of MergeJobs, all of them: the copy must begin in the same
// snapshot. Rows that another was in the way of are compared again, as long as that
// helps.
func (c *Copier) Merge(ctx context.Context, epoch Epoch, jobs []*Job) error {
	epoch.Until = c.config.Now().AddDate(1, 0, 0)
	for before := -1; len(jobs) > 0; {
		if err := c.Run(ctx, epoch, jobs); err != nil {
			return err
		}
		var again []*Job
		blocked := 0
		for _, j := range jobs {
			if !j.done {
				return errMergeCut
			}
			if j.blocked > 0 {
				again = append(again, j)
				blocked += j.blocked
			}
		}
		if blocked > 0 && blocked == before {
			return &HeldError{Table: again[0].table, Reason: "rows have exchanged values of a unique or exclusion constraint"}
		}
		for _, j := range again {
			j.done = false
		}
		jobs, before = again, blocked
	}
	return nil
}
