package ship

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

var (
	item = &change.Relation{OID: 7, Schema: "shop", Name: "item", Identity: 'd',
		Columns: []change.Column{{Name: "id", Key: true}, {Name: "v"}}}
	part = &change.Relation{OID: 8, Schema: "shop", Name: "part", Identity: 'd',
		Columns: []change.Column{{Name: "id", Key: true}, {Name: "v"}}}
)

// sameTables are the tables of the source, on the target.
type sameTables map[*change.Relation]*render.Target

func (s sameTables) Target(r *change.Relation) (*render.Target, error) {
	if s[r] == nil {
		target, err := render.Compile(r, &render.Table{Schema: r.Schema, Name: r.Name, Columns: []render.Column{
			{Name: "id", Type: "integer", Direct: true}, {Name: "v", Type: "text", Direct: true}}}, nil)
		if err != nil {
			return nil, err
		}
		s[r] = target
	}
	return s[r], nil
}

func row(id int, v string) []change.Value {
	return []change.Value{text(strconv.Itoa(id)), text(v)}
}

// countingPiece is a piece that ends its unit, made of changes that a shipper has
// read; set-based unless rows.
func countingPiece(t require.TestingT, s *Shipper, rows bool, changes ...change.Change) *piece {
	p := &piece{head: "1:1:", ends: true, rows: rows, counts: newCounts(), script: &render.Script{}}
	p.unit = p
	p.script.Append("SELECT 1")
	p.own = 1
	options := &render.Options{Policy: render.ApplyRemote}
	s.fold.Reset()
	for i := range changes {
		p.countChange(&changes[i])
		if rows {
			require.NoError(t, p.script.Change(&changes[i], i, 0, sameTables{}, options))
		} else {
			s.fold.Add(&changes[i], 0)
		}
	}
	if !rows {
		for _, segment := range s.fold.Segments() {
			require.NoError(t, p.script.Segment(&segment, sameTables{}, options))
		}
	}
	return p
}

func ins(r *change.Relation, id int) change.Change {
	return change.Change{Op: change.Insert, Relation: r, New: row(id, "new")}
}

func upd(r *change.Relation, id int) change.Change {
	return change.Change{Op: change.Update, Relation: r, New: row(id, "changed")}
}

func del(r *change.Relation, id int) change.Change {
	return change.Change{Op: change.Delete, Relation: r, Old: row(id, "")}
}

func TestCountPiece(t *testing.T) {
	t.Parallel()
	var told []Applied
	s := New(Config{Applied: func(a Applied) { told = append(told, a) }})
	p := countingPiece(t, s, false, ins(item, 1), upd(item, 1), upd(item, 2), upd(item, 3), del(item, 4), del(item, 5), ins(part, 1),
		change.Change{Op: change.Event, Channel: "c"})
	// the caller's statement, delete, update, the inserts, the event: of two rows to
	// delete one was there, and none of the two to update
	s.countLanded(p, &dblink.Outcome{Counts: []int64{0, 1, 0, 1, 1, 1}})
	s.unit.apply += time.Second
	s.countUnit()
	want := tableCounts{captured: Changes{Inserted: 1, Updated: 3, Deleted: 2}, shipped: Changes{Inserted: 1, Updated: 3, Deleted: 2},
		folded: 1, conflicts: Conflicts{UpdateMissing: 2, DeleteMissing: 1}}
	got := *s.statistics.counts.tables[item.OID]
	bytes := got.bytes
	got.bytes = 0
	require.Equal(t, want, got)
	other := s.statistics.counts.tables[part.OID]
	require.Equal(t, Changes{Inserted: 1}, other.shipped)
	require.Zero(t, other.conflicts)
	events := "SELECT 1;\n" + p.script.String()[strings.Index(p.script.String(), "INSERT INTO courier_target.event"):]
	require.Equal(t, p.script.Len()-len(events), int(bytes+other.bytes))
	require.Equal(t, []Applied{{Shipped: 8, Changes: Changes{Inserted: 2, Updated: 3, Deleted: 2}, Captured: Changes{Inserted: 2, Updated: 3, Deleted: 2},
		Events: 1, Folded: 1, Conflicts: Conflicts{UpdateMissing: 2, DeleteMissing: 1}, Batches: 1, Bytes: int64(p.script.Len()), Apply: time.Second}}, told)
	require.Equal(t, int64(8), s.shipped)
	require.True(t, s.unit.empty())
}

// Row by row each statement reports 1 if its row was as expected.
func TestCountRowByRow(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	p := countingPiece(t, s, true, ins(item, 1), ins(item, 2), upd(item, 3), upd(item, 4), del(item, 5),
		change.Change{Op: change.Upsert, Relation: item, New: row(6, "x")})
	s.countLanded(p, &dblink.Outcome{Counts: []int64{0, 1, 0, 1, 0, 0, 0}})
	got := s.unit.tables[item.OID]
	require.Equal(t, Conflicts{InsertExists: 1, UpdateMissing: 1, DeleteMissing: 1}, got.conflicts)
	require.Zero(t, got.folded)
}

// A delete of a row that the batch has put there first may find nothing.
func TestUnsureDeletes(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	p := countingPiece(t, s, false, change.Change{Op: change.Upsert, Relation: item, New: row(1, "x")}, del(item, 1), del(item, 2))
	s.countLanded(p, &dblink.Outcome{Counts: []int64{0, 1}})
	require.Zero(t, s.unit.tables[item.OID].conflicts)
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	shared := NewStatistics()
	shared.belongTo(1)
	first := New(Config{Statistics: shared})
	first.inDoubt(countingPiece(t, first, false, ins(item, 1)))
	first.detach(t.Context())
	require.True(t, shared.counts.empty())

	// another one finds the target elsewhere: the unit was not committed
	second := New(Config{Statistics: shared})
	second.head = "0:0:"
	second.settleDoubt()
	require.True(t, shared.counts.empty())

	second.inDoubt(countingPiece(t, second, false, ins(item, 1)))
	second.head = "1:1:"
	second.settleDoubt()
	second.settleDoubt()
	require.Equal(t, int64(1), shared.counts.changes)
	require.Equal(t, int64(1), shared.counts.batches)
	require.Equal(t, int64(1), second.shipped)

	// a piece in the midst of a unit says nothing
	p := countingPiece(t, second, false, ins(item, 2))
	p.ends = false
	second.inDoubt(p)
	second.settleDoubt()
	require.Equal(t, int64(1), shared.counts.changes)

	// nor has one that was sent been heard of when the connection is given up
	second.flight = countingPiece(t, second, false, ins(item, 2))
	second.detach(t.Context())
	second.settleDoubt()
	require.Equal(t, int64(2), shared.counts.changes)

	shared.belongTo(1)
	require.False(t, shared.counts.empty())
	shared.belongTo(2)
	require.True(t, shared.counts.empty())
}

func TestCountRefused(t *testing.T) {
	t.Parallel()
	duplicate, missing := &session.Error{SQLState: uniqueViolation}, &session.Error{SQLState: dblink.StateMissing}
	other := &session.Error{SQLState: "23503"}
	for _, test := range []struct {
		change change.Change
		err    error
		want   Conflicts
	}{
		{ins(item, 1), duplicate, Conflicts{InsertExists: 1}},
		{upd(item, 1), duplicate, Conflicts{UpdateExists: 1}},
		{upd(item, 1), missing, Conflicts{UpdateMissing: 1}},
		{del(item, 1), missing, Conflicts{DeleteMissing: 1}},
		{ins(item, 1), other, Conflicts{}},
	} {
		s := New(Config{})
		f := &failure{piece: countingPiece(t, s, true, test.change), completed: 1, err: test.err}
		for range 3 { // tries
			s.countRefused(f, &StopError{XID: 5, K: 6})
		}
		require.Equal(t, test.want, s.statistics.counts.applied().Conflicts)
		require.False(t, s.notes.due, "nothing was shipped")
		s.countRefused(f, &StopError{XID: 7, K: 8})
		test.want.merge(test.want)
		require.Equal(t, test.want, s.statistics.counts.applied().Conflicts)
	}
}

// However the counts of units are merged and told, nothing of them is lost.
func TestMergeCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sum, told := newCounts(), Applied{}
		s := New(Config{Applied: func(a Applied) {
			told.Shipped += a.Shipped
			told.Changes.merge(a.Changes)
			told.Captured.merge(a.Captured)
			told.Folded += a.Folded
			told.Events += a.Events
			told.Batches += a.Batches
			told.Bytes += a.Bytes
		}})
		for range rapid.IntRange(0, 5).Draw(t, "units") {
			for range rapid.IntRange(1, 3).Draw(t, "pieces") {
				var changes []change.Change
				for range rapid.IntRange(0, 10).Draw(t, "changes") {
					relation := rapid.SampledFrom([]*change.Relation{item, part}).Draw(t, "relation")
					made := rapid.SampledFrom([]func(*change.Relation, int) change.Change{ins, upd, del}).Draw(t, "op")
					changes = append(changes, made(relation, rapid.IntRange(1, 4).Draw(t, "id")))
				}
				p := countingPiece(t, s, false, changes...)
				s.countLanded(p, &dblink.Outcome{})
				sum.merge(&p.counts)
			}
			s.countUnit()
			sum.batches++
		}
		require.Equal(t, sum.applied(), told)
		require.Equal(t, sum, s.statistics.counts)
	})
}

// What counting costs: of a change, and of a batch as a whole.
func BenchmarkCount(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := New(Config{})
			changes := make([]change.Change, n)
			for i := range changes {
				changes[i] = ins(item, i)
			}
			p := countingPiece(b, s, false, changes...)
			outcome := &dblink.Outcome{Counts: []int64{0, int64(n)}}
			b.ReportAllocs()
			for b.Loop() {
				p.counts, p.shipped = newCounts(), n
				table := p.counts.of(item.OID)
				for i := range changes {
					table.countCaptured(changes[i].Op, false)
					table.shipped.add(changes[i].Op)
				}
				s.countLanded(p, outcome)
				s.countUnit()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/change")
		})
	}
}
