package batch

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

func relation(shape uint32, identity byte, keys ...bool) *change.Relation {
	r := &change.Relation{Shape: shape, OID: shape, Schema: "public", Name: fmt.Sprintf("t%d", shape), Identity: identity}
	for i, key := range keys {
		r.Columns = append(r.Columns, change.Column{Name: fmt.Sprintf("c%d", i), Key: key})
	}
	return r
}

var (
	single  = relation(1, 'd', true, false, false, false)
	double  = relation(2, 'i', false, true, false, true)
	onlyKey = relation(3, 'd', true, true)
	keyless = relation(4, 'd', false, false)
	whole   = relation(5, 'f', true, true)
	all     = []*change.Relation{single, double, onlyKey, keyless, whole}
)

func text(s string) change.Value { return change.Value{Kind: change.Text, Data: []byte(s)} }

func row(values ...string) []change.Value {
	out := make([]change.Value, len(values))
	for i, v := range values {
		switch v {
		case "∅":
			out[i].Kind = change.Null
		case "~":
			out[i].Kind = change.Unchanged
		default:
			out[i] = text(v)
		}
	}
	return out
}

// generator draws changes that a source could have made from its contents m.
type generator struct {
	t       *rapid.T
	m       *model
	upserts bool // upserts have been drawn
}

// tuple draws a row. Keys are few, so that changes meet.
func (g *generator) tuple(r *change.Relation) []change.Value {
	tuple := make([]change.Value, len(r.Columns))
	for i := range tuple {
		tuple[i] = g.value(r.Columns[i].Key)
	}
	return tuple
}

func (g *generator) value(key bool) change.Value {
	if !key && rapid.IntRange(0, 4).Draw(g.t, "null") == 0 {
		return change.Value{Kind: change.Null}
	}
	if key {
		return text(rapid.SampledFrom([]string{"", "1", "2", "11", "3", "null"}).Draw(g.t, "key"))
	}
	return text(rapid.StringMatching(`[a-c]{0,2}`).Draw(g.t, "value"))
}

// old returns the old tuple of a change of row.
func old(r *change.Relation, row []change.Value) []change.Value {
	out := slices.Clone(row)
	for i := range out {
		if !r.Columns[i].Key {
			out[i] = change.Value{Kind: change.Null}
		}
	}
	return out
}

// next draws one change and applies it to m, or returns false.
func (g *generator) next() (change.Change, bool) {
	c := g.draw()
	if c.Op == 0 || g.m.one(&c) != nil {
		return c, false
	}
	return c, true
}

func (g *generator) draw() change.Change {
	switch rapid.IntRange(0, 40).Draw(g.t, "special") {
	case 0:
		r := rapid.SampledFrom(all).Draw(g.t, "truncated")
		return change.Change{Op: change.Truncate, Truncated: []*change.Relation{r}, Restart: rapid.Bool().Draw(g.t, "restart")}
	case 1:
		return change.Change{Op: change.Event, Channel: "c", Payload: []byte(rapid.StringMatching(`[a-z]{3}`).Draw(g.t, "payload"))}
	}
	r := rapid.SampledFrom(all).Draw(g.t, "table")
	op := rapid.SampledFrom([]change.Op{change.Insert, change.Insert, change.Update, change.Update, change.Update, change.Delete, change.Upsert}).Draw(g.t, "op")
	c := change.Change{Op: op, Relation: r}
	if !r.HasKey() {
		return g.drawKeyless(c)
	}
	if op == change.Insert || op == change.Upsert {
		if op == change.Upsert {
			g.upserts = true
		}
		c.New = g.tuple(r)
		return c
	}
	table := g.m.table(r)
	if len(table) == 0 {
		return change.Change{}
	}
	var keys []string
	for key := range table {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	current := table[rapid.SampledFrom(keys).Draw(g.t, "row")]
	if op == change.Delete {
		c.Old = old(r, current)
		return c
	}
	moves := rapid.IntRange(0, 2).Draw(g.t, "moves") == 0
	c.New = slices.Clone(current)
	for i := range c.New {
		switch {
		case r.Columns[i].Key && moves, !r.Columns[i].Key && rapid.Bool().Draw(g.t, "set"):
			c.New[i] = g.value(r.Columns[i].Key)
		case !r.Columns[i].Key && rapid.Bool().Draw(g.t, "out of line"):
			c.New[i] = change.Value{Kind: change.Unchanged}
		}
	}
	if keyOf(r, c.New) != keyOf(r, current) || rapid.IntRange(0, 9).Draw(g.t, "old anyway") == 0 {
		c.Old = old(r, current)
	}
	return c
}

func (g *generator) drawKeyless(c change.Change) change.Change {
	tuple := func() []change.Value { return row(rapid.SampledFrom([]string{"x", "y"}).Draw(g.t, "bag"), "∅") }
	if c.Relation == keyless || c.Op == change.Insert || c.Op == change.Upsert {
		c.Op = change.Insert
	}
	if c.Op != change.Insert {
		c.Old = tuple()
	}
	if c.Op != change.Delete {
		c.New = tuple()
	}
	return c
}

// TestNetEffect compares a fold with applying the changes one by one. A case in
// which the set-based order meets a key that two rows share for a moment is
// passed over: the target rejects the statement, and the row-by-row path, which
// the model's one-by-one application stands for, takes its place.
func TestNetEffect(t *testing.T) {
	t.Parallel()
	compared, transient := 0, 0
	fold := New()
	rapid.Check(t, func(t *rapid.T) {
		source := newModel()
		g := &generator{t: t, m: source}
		for range rapid.IntRange(0, 15).Draw(t, "rows before") {
			c := change.Change{Op: change.Insert, Relation: rapid.SampledFrom(all).Draw(t, "table")}
			c.New = g.tuple(c.Relation)
			if !c.Relation.HasKey() {
				c.New = row("x", "∅")
			}
			_ = source.one(&c)
		}
		for range 2 { // the second batch uses the first one's memory
			target := source.clone()
			target.events = slices.Clone(source.events)
			g.upserts = false
			fold.Reset()
			fold.Rewrites = rapid.Bool().Draw(t, "rewrites")
			var changes []change.Change
			for range rapid.IntRange(0, 40).Draw(t, "changes") {
				if c, ok := g.next(); ok {
					changes = append(changes, c)
					fold.Add(&c, len(changes))
				}
			}
			before := fmt.Sprint(changes)
			segments := fold.Segments()
			in, folded := fold.Stats()
			require.Equal(t, len(changes), in)
			require.True(t, folded >= 0 || g.upserts, "folded %d of %d", folded, in)
			require.Equal(t, before, fmt.Sprint(changes), "the changes themselves must stay as they were")
			failed := false
			for i := range segments {
				err := target.segment(&segments[i], g.upserts)
				if err == errTransient {
					failed = true
					break
				}
				require.NoError(t, err)
			}
			if failed {
				transient++
				continue
			}
			compared++
			require.Equal(t, source.dump(), target.dump())
		}
	})
	require.Greater(t, compared, 9*transient, "too many cases passed over")
}

func fold(changes ...change.Change) []Segment {
	f := New()
	for i := range changes {
		f.Add(&changes[i], i)
	}
	return f.Segments()
}

func ins(v ...string) change.Change {
	return change.Change{Op: change.Insert, Relation: single, New: row(v...)}
}
func ups(v ...string) change.Change {
	return change.Change{Op: change.Upsert, Relation: single, New: row(v...)}
}
func upd(v ...string) change.Change {
	return change.Change{Op: change.Update, Relation: single, New: row(v...)}
}
func mov(from string, v ...string) change.Change {
	return change.Change{Op: change.Update, Relation: single, Old: row(from, "∅", "∅", "∅"), New: row(v...)}
}
func del(key string) change.Change {
	return change.Change{Op: change.Delete, Relation: single, Old: row(key, "∅", "∅", "∅")}
}

// summary writes a table's part as short text.
func summary(t *Table) (lines []string) {
	for _, r := range t.Deletes {
		lines = append(lines, "delete "+string(r.Key[0].Data))
	}
	for _, u := range t.Updates {
		for _, r := range u.Rows {
			lines = append(lines, fmt.Sprintf("update %s set %v: %s", r.Key[0].Data, u.Columns, show(r.New)))
		}
	}
	for _, r := range t.Inserts {
		lines = append(lines, "insert "+show(r.New))
	}
	for _, r := range t.Upserts {
		lines = append(lines, "upsert "+show(r.New))
	}
	return lines
}

func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		changes []change.Change
		want    []string
	}{
		{"insert, delete", []change.Change{ins("1", "a", "b", "c"), del("1")}, nil},
		{"insert, update", []change.Change{ins("1", "a", "b", "c"), upd("1", "x", "~", "∅")}, []string{"insert t1 tx tb n "}},
		{"insert, move", []change.Change{ins("1", "a", "b", "c"), mov("1", "2", "~", "b", "c")}, []string{"insert t2 ta tb tc "}},
		{"update, update", []change.Change{upd("1", "a", "~", "~"), upd("1", "~", "b", "~")}, []string{"update 1 set [1 2]: t1 ta tb u "}},
		{"update, delete", []change.Change{upd("1", "a", "b", "c"), del("1")}, []string{"delete 1"}},
		{"move, delete", []change.Change{mov("1", "2", "a", "b", "c"), del("2")}, []string{"delete 1"}},
		{"move, move, update", []change.Change{mov("1", "2", "a", "~", "~"), mov("2", "3", "~", "~", "~"), upd("3", "~", "b", "~")}, []string{"update 1 set [0 1 2]: t3 ta tb u "}},
		{"move there and back", []change.Change{mov("1", "2", "a", "~", "~"), mov("2", "1", "~", "~", "~")}, []string{"update 1 set [1]: t1 ta u u "}},
		{"delete, insert", []change.Change{del("1"), ins("1", "a", "b", "c")}, []string{"delete 1", "insert t1 ta tb tc "}},
		{"delete, upsert", []change.Change{del("1"), ups("1", "a", "b", "c")}, []string{"delete 1", "insert t1 ta tb tc "}},
		{"delete, insert, delete", []change.Change{del("1"), ins("1", "a", "b", "c"), del("1")}, []string{"delete 1"}},
		{"move away, insert", []change.Change{mov("1", "2", "a", "b", "c"), ins("1", "x", "y", "z")}, []string{"update 1 set [0 1 2 3]: t2 ta tb tc ", "insert t1 tx ty tz "}},
		{"upsert, update", []change.Change{ups("1", "a", "b", "c"), upd("1", "~", "x", "~")}, []string{"upsert t1 ta tx tc "}},
		{"upsert, delete", []change.Change{ups("1", "a", "b", "c"), del("1")}, []string{"delete 1"}},
		{"upsert, move", []change.Change{ups("1", "a", "b", "c"), mov("1", "2", "~", "b", "c")}, []string{"delete 1", "upsert t2 ta tb tc "}},
		{"insert, upsert", []change.Change{ins("1", "a", "b", "c"), ups("1", "x", "b", "c")}, []string{"insert t1 tx tb tc "}},
		{"update, upsert", []change.Change{upd("1", "a", "~", "c"), ups("1", "x", "b", "c")}, []string{"upsert t1 tx tb tc "}},
		{"move, upsert", []change.Change{mov("1", "2", "a", "~", "c"), ups("2", "x", "b", "c")}, []string{"update 1 set [0 1 2 3]: t2 tx tb tc "}},
		{"move away, upsert, delete", []change.Change{mov("1", "2", "a", "~", "~"), ups("1", "x", "y", "z"), del("1")}, []string{"update 1 set [0 1]: t2 ta u u "}},
		{"move away, upsert another there, delete", []change.Change{mov("1", "2", "a", "~", "~"), ups("3", "x", "y", "z"), mov("3", "1", "x", "y", "z"), del("1")},
			[]string{"delete 3", "update 1 set [0 1]: t2 ta u u "}},
		{"keys kept come first", []change.Change{mov("1", "2", "a", "~", "~"), upd("3", "x", "~", "~")}, []string{"update 3 set [1]: t3 tx u u ", "update 1 set [0 1]: t2 ta u u "}},
		{"update of nothing", []change.Change{upd("1", "~", "~", "~")}, nil},
		{"move there and back, upsert, delete, insert", []change.Change{mov("1", "2", "a", "~", "~"), mov("2", "1", "~", "~", "~"),
			ups("1", "a", "b", "c"), del("1"), ins("1", "x", "y", "z")}, []string{"delete 1", "insert t1 tx ty tz "}},
		{"swap by a third key", []change.Change{mov("1", "0", "~", "~", "~"), mov("2", "1", "~", "~", "~"), mov("0", "2", "~", "~", "~")},
			[]string{"update 1 set [0]: t2 u u u ", "update 2 set [0]: t1 u u u "}},
		{"keys in order", []change.Change{del("10"), del("a"), del("9"), del("-1"), del("")},
			[]string{"delete ", "delete -1", "delete 9", "delete 10", "delete a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			segments := fold(test.changes...)
			require.Len(t, segments, 1)
			require.Equal(t, test.want, summary(segments[0].Tables[0]))
		})
	}
}

func TestRewrites(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		changes []change.Change
		want    []string
	}{
		"delete, insert":       {[]change.Change{del("1"), ins("1", "a", "b", "c")}, []string{"update 1 set [1 2 3]: t1 ta tb tc "}},
		"move, delete, insert": {[]change.Change{mov("1", "2", "a", "~", "~"), del("2"), ins("2", "x", "y", "z")}, []string{"update 1 set [0 1 2 3]: t2 tx ty tz "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := New()
			f.Rewrites = true
			for i := range test.changes {
				f.Add(&test.changes[i], i)
			}
			require.Equal(t, test.want, summary(f.Segments()[0].Tables[0]))
		})
	}
}

func TestTruncates(t *testing.T) {
	t.Parallel()
	truncate := func(restart bool, relations ...*change.Relation) change.Change {
		return change.Change{Op: change.Truncate, Truncated: relations, Restart: restart}
	}
	segments := fold(ins("1", "a", "b", "c"), truncate(false, single), truncate(false, single, double), truncate(true, whole), ins("1", "x", "y", "z"))
	require.Len(t, segments, 2)
	require.Empty(t, segments[0].Truncates)
	require.Len(t, segments[1].Truncates, 2)
	require.Equal(t, []*change.Relation{single, double}, segments[1].Truncates[0].Relations)
	require.True(t, segments[1].Truncates[1].Restart)
	require.Equal(t, []string{"insert t1 tx ty tz "}, summary(segments[1].Tables[0]))

	partition := change.Change{Op: change.Truncate, Truncated: []*change.Relation{single}, Where: "(a = 1)"}
	segments = fold(truncate(false, double), partition, partition, truncate(false, whole))
	require.Len(t, segments, 1)
	require.Len(t, segments[0].Truncates, 4, "a condition is of one table")
	require.Equal(t, "(a = 1)", segments[0].Truncates[2].Where)
	require.Equal(t, []*change.Relation{whole}, segments[0].Truncates[3].Relations)
}

func TestNewShapeStartsASegment(t *testing.T) {
	t.Parallel()
	wider := relation(1, 'd', true, false, false, false, false)
	segments := fold(ins("1", "a", "b", "c"), change.Change{Op: change.Update, Relation: wider, New: row("1", "a", "b", "c", "d")})
	require.Len(t, segments, 2)
	require.Same(t, single, segments[0].Tables[0].Relation)
	require.Same(t, wider, segments[1].Tables[0].Relation)
}

func TestFirstTransactionIsKept(t *testing.T) {
	t.Parallel()
	segments := fold(del("9"), upd("1", "a", "b", "c"), upd("1", "x", "b", "c"), mov("1", "2", "a", "b", "c"))
	require.Equal(t, 1, segments[0].Tables[0].Updates[0].Rows[0].Tx)
}

func TestManyKeys(t *testing.T) {
	t.Parallel()
	const n = 20000
	f := New()
	for range 3 { // the index grows, is reset and used again
		f.Reset()
		for i := range n {
			c := ins(fmt.Sprint(i), "a", "b", "c")
			f.Add(&c, i)
		}
		for i := range n {
			c := mov(fmt.Sprint(i), fmt.Sprint(i+n), "~", "b", "c")
			f.Add(&c, i)
		}
		for i := range n / 2 {
			c := del(fmt.Sprint(i + n))
			f.Add(&c, i)
		}
		segments := f.Segments()
		require.Len(t, segments[0].Tables[0].Inserts, n/2)
		require.Empty(t, segments[0].Tables[0].Updates)
		in, folded := f.Stats()
		require.Equal(t, n*2+n/2, in)
		require.Equal(t, n*2, folded)
	}
}

func TestReplacedKeysAreFoundAfterGrowth(t *testing.T) {
	t.Parallel()
	const n = 5000
	f := New()
	add := func(c change.Change) { f.Add(&c, 0) }
	for i := range n {
		add(del(fmt.Sprint(i)))
		add(ins(fmt.Sprint(i), "a", "b", "c"))
	}
	for i := range n {
		add(upd(fmt.Sprint(i), "x", "~", "~"))
	}
	table := f.Segments()[0].Tables[0]
	require.Len(t, table.Deletes, n)
	require.Len(t, table.Inserts, n)
	require.Empty(t, table.Updates)
}
