package chunk

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Cleaning(m)) }

// connect opens a session of a new cluster.
func connect(t *testing.T) *session.PGX {
	t.Helper()
	cluster := pgtest.Start(t)
	s, err := session.Connect(t.Context(), cluster.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

// Ranges of pages hold each row once, also of partitions and with values out of
// line, and keep to their size.
func TestPagesHoldEachRowOnce(t *testing.T) {
	s := connect(t)
	run := func(sql string, args ...any) []session.Row {
		t.Helper()
		rows, err := s.Query(t.Context(), sql, args...)
		require.NoError(t, err, sql)
		return rows
	}
	run(`CREATE TABLE public."Odd name" (id int, v text) PARTITION BY LIST (id)`)
	run(`CREATE TABLE public.one PARTITION OF public."Odd name" FOR VALUES IN (1)`)
	run(`CREATE TABLE public.rest PARTITION OF public."Odd name" DEFAULT`)
	run(`ALTER TABLE public.one ALTER v SET STORAGE EXTERNAL`)
	run(`INSERT INTO public."Odd name" SELECT 1 + i % 2, repeat('x', CASE i % 20 WHEN 0 THEN 20000 ELSE 10 END) FROM generate_series(1, 20000) i`)
	run(`VACUUM ANALYZE public."Odd name"`)

	leaves, err := Leaves(t.Context(), Local(s), `'public."Odd name"'::pg_catalog.regclass`)
	require.NoError(t, err)
	require.Len(t, leaves, 2)
	total, parts := 0, 0
	for i := range leaves {
		leaf := &leaves[i]
		require.Equal(t, int64(10000), leaf.Rows)
		require.NotZero(t, leaf.Filenode)
		ranges := leaf.Pages(256 << 10)
		require.GreaterOrEqual(t, int64(len(ranges))*(256<<10), leaf.Bytes/2)
		estimated := int64(0)
		for _, r := range ranges {
			from, to := r.Bounds()
			total += len(run("SELECT FROM ONLY "+leaf.Name+" WHERE ctid >= $1::tid AND ctid < $2::tid", from, to))
			estimated += leaf.EstimatedRows(r)
		}
		require.InDelta(t, 10000, estimated, float64(len(ranges)))
		parts += len(ranges)
	}
	require.Equal(t, 20000, total)
	require.Greater(t, parts, 20)
}

// Ranges of a key hold each row once, in both kinds of order.
func TestKeysHoldEachRowOnce(t *testing.T) {
	s := connect(t)
	for _, sql := range []string{
		`CREATE TABLE public.t (a int, "b'" text, c int, PRIMARY KEY (a, "b'") INCLUDE (c))`,
		`INSERT INTO public.t SELECT i % 7, 'it''s ' || i, i FROM generate_series(1, 1000) i`,
	} {
		_, err := s.Query(t.Context(), sql)
		require.NoError(t, err)
	}
	columns, err := LoadKey(t.Context(), Local(s), "'public.t_pkey'::pg_catalog.regclass")
	require.NoError(t, err)
	require.Equal(t, []KeyColumn{{Name: "a", Type: "integer"}, {Name: `"b'"`, Type: "text", Collate: true}}, columns)
	key := &Key{Table: "ONLY public.t", Columns: columns}
	var sizes []int
	for after := []string(nil); ; {
		r, err := key.Next(t.Context(), Local(s), after, 300)
		require.NoError(t, err)
		rows, err := s.Query(t.Context(), "SELECT c FROM "+key.Table+" WHERE "+key.Condition(r))
		require.NoError(t, err)
		sizes = append(sizes, len(rows))
		if r.UpTo == nil {
			break
		}
		after = r.UpTo
	}
	require.Equal(t, []int{300, 300, 300, 100}, sizes)
}

func TestPagesCoverTheLeaf(t *testing.T) {
	for _, leaf := range []Leaf{{Blocks: 0, Bytes: 8192}, {Blocks: 1, Bytes: 8192}, {Blocks: 1000, Bytes: 8192000}, {Blocks: 3, Bytes: 1 << 40}} {
		t.Run(fmt.Sprint(leaf.Blocks), func(t *testing.T) {
			var covered []int64
			for _, r := range leaf.Pages(1 << 20) {
				for block := r.From; block < r.To; block++ {
					covered = append(covered, block)
				}
			}
			require.Len(t, covered, int(leaf.Blocks))
			require.True(t, slices.IsSorted(covered))
		})
	}
}

// What is left of a leaf and what is done cover it, and nothing is in both.
func TestWithoutWhatIsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := Leaf{Blocks: rapid.Int64Range(0, 50).Draw(t, "blocks")}
		leaf.Bytes = leaf.Blocks * 10
		covered := make([]int, leaf.Blocks)
		var done []PageRange
		for range rapid.IntRange(0, 6).Draw(t, "ranges") {
			from := rapid.Int64Range(0, 60).Draw(t, "from")
			r := PageRange{From: from, To: from + rapid.Int64Range(0, 20).Draw(t, "length")}
			done = append(done, r)
			for b := r.From; b < min(r.To, leaf.Blocks); b++ {
				covered[b] = 1
			}
		}
		for _, r := range leaf.Without(done, rapid.Int64Range(1, 100).Draw(t, "bytes")) {
			require.Less(t, r.From, r.To)
			for b := r.From; b < r.To; b++ {
				covered[b]++
			}
		}
		for b, n := range covered {
			require.Equal(t, 1, n, "block %d", b)
		}
	})
}
