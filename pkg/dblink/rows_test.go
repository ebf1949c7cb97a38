package dblink

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kinds are columns of every type whose values go without quotes, and of one whose
// do not.
const kinds = `id int PRIMARY KEY, b bool, i2 int2, i8 int8, o oid, f4 float4, f8 float8, n numeric,
	d date, tm time, ts timestamp, tz timestamptz, u uuid, t text`

// fillKinds has the values of each type that look least like others.
const fillKinds = `INSERT INTO kinds VALUES
	(1, true, -32768, -9223372036854775808, 4294967295, 'NaN', '-Infinity', 'NaN', 'infinity', '24:00', '-infinity', 'infinity',
	 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'NULL'),
	(2, false, 32767, 9223372036854775807, 0, '-0', 1e-300, -1234567890.000001, '4713-01-01 BC', '00:00:00.000001', '0044-03-15 12:00 BC',
	 '0001-01-01 00:00:00+00 BC', '00000000-0000-0000-0000-000000000000', ''),
	(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(4, true, 0, 0, 1, 1.5, 0.1, 'Infinity', '5874897-12-31', '12:00', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00',
	 '12345678-1234-1234-1234-123456789abc', E' {,"\\ ''} ')`

// kindRows is what copies the table.
func kindRows(first string, most int) *Rows {
	names := strings.Split("id b i2 i8 o f4 f8 n d tm ts tz u t", " ")
	types := strings.Split("int4 bool int2 int8 oid float4 float8 numeric date time timestamp timestamptz uuid text", " ")
	r := &Rows{Query: "SELECT ctid, " + strings.Join(names, ", ") + " FROM ONLY public.kinds WHERE ctid >= $1 AND ctid < $2",
		First: first, Last: "(4294967295,0)", Head: "INSERT INTO public.kinds (" + strings.Join(names, ", ") + ") SELECT pg_catalog.unnest('{",
		Most: most, Largest: math.MaxInt32}
	var joints []string
	for i, typ := range types {
		joint := "}'::pg_catalog." + typ + "[])"
		if i+1 < len(types) {
			joint += ", pg_catalog.unnest('{"
		}
		joints = append(joints, joint)
	}
	r.Joints = []byte(textArray(joints))
	return r
}

func TestRowsReadWhileTheNodeWorks(t *testing.T) {
	cluster, _, l := open(t)
	for _, database := range []string{"source", "target"} {
		cluster.Exec(t, database, "CREATE TABLE kinds ("+kinds+")")
	}
	cluster.Exec(t, "source", fillKinds)
	settle := func() {
		t.Helper()
		outcome, err := l.Wait(context.Background())
		require.NoError(t, err)
		require.Nil(t, outcome.Err)
	}

	// each statement ends behind the row with which it is long enough
	sent, err := l.SendRows(t.Context(), kindRows("(0,0)", 1))
	require.NoError(t, err)
	require.Equal(t, int64(1), sent.Rows)
	for sent.Next != "" {
		require.True(t, l.Busy())
		_, err = l.ReadRows(t.Context(), kindRows("(0,0)", 1)) // is dropped
		require.NoError(t, err)
		sent, err = l.ReadRows(t.Context(), kindRows(sent.Next, 1))
		require.NoError(t, err)
		require.Equal(t, int64(1), sent.Rows)
		settle()
		require.False(t, l.Busy())
		require.NoError(t, l.SendRead(t.Context(), &sent))
	}
	settle()
	const all = "SELECT string_agg(k::text, E'\n' ORDER BY id) FROM kinds k"
	require.Equal(t, cluster.Value(t, "source", all), cluster.Value(t, "target", all))
	require.Equal(t, "4", cluster.Value(t, "target", "SELECT count(*) FROM kinds"))

	// it is sent once
	require.ErrorContains(t, l.SendRead(t.Context(), &sent), "there is no statement to send")
}
