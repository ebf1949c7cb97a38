package copydata

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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
	keys, places, gone, err := l.compare(ctx, j)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		if err = l.exec(ctx, j.table.deletion(keys, gone)); err != nil {
			return err
		}
	}
	var differing []int
	jobs := j.table.rowJobs(places, func(numbers []int) string {
		differing = append(differing, numbers...)
		return ""
	})
	for _, rows := range jobs {
		l.take(rows)
		for done := false; !done && err == nil; {
			done, err = l.step(ctx)
		}
		if state := session.SQLState(err); state == "23505" || state == "23P01" {
			// Another row there, which is not compared yet, is in the way of a
			// constraint: the copy brings these when that one is gone.
			if err = l.link.Exec(ctx, "ROLLBACK"); err == nil {
				err = l.exec(ctx, j.table.deletion(keys, differing))
			}
			l.job = j
			return err
		}
		if err != nil {
			return err
		}
	}
	l.job = j
	return nil
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

// deletion deletes the node's rows of some numbers, by their keys.
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
	return "DELETE FROM " + only + t.Target.Name() + " AS t USING (SELECT " + strings.Join(sets, ", ") + ") AS k WHERE " +
		strings.Join(conditions, " AND ")
}

// errMergeCut says that the ranges of a merge were not all compared.
var errMergeCut = errors.New("the merge was interrupted")

// Cut reports whether err means that a merge was told to stop.
func Cut(err error) bool { return errors.Is(err, errMergeCut) }

// Merge does the jobs of MergeJobs, all of them: the copy must begin in the same
// snapshot.
func (c *Copier) Merge(ctx context.Context, epoch Epoch, jobs []*Job) error {
	epoch.Until = c.config.Now().AddDate(1, 0, 0)
	if err := c.Run(ctx, epoch, jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		if !j.done {
			return errMergeCut
		}
	}
	return nil
}
