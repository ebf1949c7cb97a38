package wire

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

var testShapes = shapeMap{
	1: {Shape: 1, Schema: "public", Name: "keyed", Identity: 'd', Columns: []change.Column{
		{Name: "id", TypeOID: 23, TypeMod: -1, Key: true}, {Name: "note", TypeOID: 25, TypeMod: -1}, {Name: "n", TypeOID: 1700, TypeMod: 786438}}},
	2: {Shape: 2, Schema: "public", Name: "whole", Identity: 'f', Columns: []change.Column{
		{Name: "a", TypeOID: 25, TypeMod: -1, Key: true}, {Name: "b", TypeOID: 25, TypeMod: -1, Key: true}}},
	3: {Shape: 3, Schema: "odd \"schema\"", Name: "no columns", Identity: 'n'},
}

func text(s string) change.Value { return change.Value{Kind: change.Text, Data: []byte(s)} }

func drawTuple(t *rapid.T, r *change.Relation, unchanged bool) []change.Value {
	tuple := make([]change.Value, len(r.Columns))
	for i := range tuple {
		kinds := []change.Kind{change.Text, change.Null}
		if unchanged {
			kinds = append(kinds, change.Unchanged)
		}
		kind := change.Text
		if !r.Columns[i].Key {
			kind = rapid.SampledFrom(kinds).Draw(t, "kind")
		}
		tuple[i].Kind = kind
		if unchanged && !r.Columns[i].Key && kind != change.Unchanged {
			tuple[i].Same = rapid.Bool().Draw(t, "same")
		}
		if kind == change.Text {
			tuple[i].Data = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
		}
	}
	return tuple
}

func drawChange(t *rapid.T) change.Change {
	ops := []change.Op{change.Insert, change.Update, change.Delete, change.Upsert, change.Truncate, change.Event, change.DDL}
	c := change.Change{Op: rapid.SampledFrom(ops).Draw(t, "op")}
	switch c.Op {
	case change.Truncate:
		tables := rapid.IntRange(1, 3).Draw(t, "tables")
		if tables == 1 {
			c.Where = rapid.SampledFrom([]string{"", "true", "((a IS NOT NULL) AND (a = 'é'::text))"}).Draw(t, "condition")
		}
		for range tables {
			c.Truncated = append(c.Truncated, testShapes[rapid.Uint32Range(1, 3).Draw(t, "shape")])
		}
		c.Cascade = rapid.Bool().Draw(t, "cascade")
		c.Restart = rapid.Bool().Draw(t, "restart")
		return c
	case change.Event:
		c.Channel = rapid.StringMatching(`[a-zé ]{0,8}`).Draw(t, "channel")
		c.Payload = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload")
		return c
	case change.DDL:
		c.Command = drawCommand(t)
		return c
	}
	c.Relation = testShapes[rapid.Uint32Range(1, 3).Draw(t, "shape")]
	if c.Op == change.Delete || c.Op == change.Update && (c.Relation.WholeRow() || rapid.Bool().Draw(t, "old")) {
		c.Old = drawTuple(t, c.Relation, false)
	}
	if c.Op != change.Delete {
		c.New = drawTuple(t, c.Relation, c.Op == change.Update)
	}
	for range rapid.IntRange(0, 3).Draw(t, "filters") {
		c.Filters = append(c.Filters, change.FilterResult{Filter: rapid.Int32().Draw(t, "filter"),
			Old: rapid.Bool().Draw(t, "old in"), New: rapid.Bool().Draw(t, "new in")})
	}
	return c
}

func drawCommand(t *rapid.T) *change.Command {
	word := rapid.StringMatching(`[a-zé "';]{0,8}`)
	c := &change.Command{Role: word.Draw(t, "role"), Text: word.Draw(t, "command")}
	for range rapid.IntRange(0, 2).Draw(t, "sets") {
		c.Sets = append(c.Sets, word.Draw(t, "set"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "settings") {
		c.Settings = append(c.Settings, change.Setting{Name: word.Draw(t, "name"), Value: word.Draw(t, "value")})
	}
	return c
}

// cut splits framed messages into chunks wherever the format allows it.
func cut(t *rapid.T, messages [][]byte) [][]byte {
	var chunks [][]byte
	var chunk []byte
	end := func() {
		if len(chunk) > 0 {
			chunks = append(chunks, chunk)
			chunk = nil
		}
	}
	for _, m := range messages {
		framed := frame(nil, m)
		chunk = append(chunk, framed[:4]...) // the length is never split
		for rest := framed[4:]; len(rest) > 0; {
			if rapid.IntRange(0, 2).Draw(t, "cut") == 0 {
				end()
			}
			n := rapid.IntRange(1, len(rest)).Draw(t, "run")
			chunk = append(chunk, rest[:n]...)
			rest = rest[n:]
		}
		if rapid.Bool().Draw(t, "end the chunk") {
			end()
		}
	}
	end()
	return chunks
}

func requireSame(t require.TestingT, want, got *change.Change) {
	sameTuple := func(a, b []change.Value) bool {
		return (a == nil) == (b == nil) && slices.EqualFunc(a, b, func(x, y change.Value) bool {
			return x.Kind == y.Kind && x.Same == y.Same && string(x.Data) == string(y.Data)
		})
	}
	require.Equal(t, want.Op, got.Op)
	require.Same(t, want.Relation, got.Relation)
	require.True(t, sameTuple(want.Old, got.Old), "old row: want %v, got %v", want.Old, got.Old)
	require.True(t, sameTuple(want.New, got.New), "new row: want %v, got %v", want.New, got.New)
	require.True(t, slices.Equal(want.Filters, got.Filters), "filters: want %v, got %v", want.Filters, got.Filters)
	require.Equal(t, want.Truncated, got.Truncated)
	require.Equal(t, want.Where, got.Where)
	require.Equal(t, want.Cascade, got.Cascade)
	require.Equal(t, want.Restart, got.Restart)
	require.Equal(t, want.Channel, got.Channel)
	require.Equal(t, string(want.Payload), string(got.Payload))
	require.Equal(t, want.Command, got.Command)
}

func TestRoundTripInAnyChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := NewDecoder(testShapes)
		for range rapid.IntRange(1, 2).Draw(t, "transactions") {
			var want []change.Change
			var messages [][]byte
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				c := drawChange(t)
				want = append(want, c)
				messages = append(messages, encode(&c))
			}
			var got []change.Change
			for _, chunk := range cut(t, messages) {
				require.NoError(t, d.Decode(chunk, func(c change.Change) error {
					c.Filters = slices.Clone(c.Filters) // valid only now
					got = append(got, c)
					return nil
				}))
			}
			require.False(t, d.Pending())
			require.Len(t, got, len(want))
			for i := range want {
				requireSame(t, &want[i], &got[i])
			}
			d.Recycle()
		}
	})
}

func TestPendingAndReset(t *testing.T) {
	t.Parallel()
	c := change.Change{Op: change.Insert, Relation: testShapes[1], New: []change.Value{text("1"), text("x"), {Kind: change.Null}}}
	framed := frame(nil, encode(&c))
	d := NewDecoder(testShapes)
	count := 0
	emit := func(change.Change) error { count++; return nil }
	require.NoError(t, d.Decode(framed[:7], emit))
	require.True(t, d.Pending())
	d.Reset()
	require.False(t, d.Pending())
	require.NoError(t, d.Decode(framed, emit))
	require.Equal(t, 1, count)
}

func TestKeyOutOfLineComesFromTheOldRow(t *testing.T) {
	t.Parallel()
	c := change.Change{Op: change.Update, Relation: testShapes[1],
		Old: []change.Value{text("long key"), {Kind: change.Null}, {Kind: change.Null}},
		New: []change.Value{{Kind: change.Unchanged}, text("x"), {Kind: change.Unchanged}}}
	var got change.Change
	keep := func(c change.Change) error { got = c; return nil }
	require.NoError(t, NewDecoder(testShapes).Decode(frame(nil, encode(&c)), keep))
	require.Equal(t, "long key", string(got.New[0].Data))
	require.Equal(t, change.Unchanged, got.New[2].Kind)

	c.Old = nil
	var bad *MalformedError
	require.ErrorAs(t, NewDecoder(testShapes).Decode(frame(nil, encode(&c)), keep), &bad)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	insert := func(tuple ...change.Value) []byte {
		return encode(&change.Change{Op: change.Insert, Relation: testShapes[1], New: tuple})
	}
	good := insert(text("1"), text("x"), text("2"))
	tests := map[string][]byte{
		"length word cut":          {0, 0, 1},
		"empty frame":              {0, 0, 0, 0},
		"length out of range":      {0xFF, 0xFF, 0xFF, 0xFF, 'I'},
		"unknown type":             frame(nil, []byte("X123456")),
		"type alone":               frame(nil, []byte("I")),
		"cut in a value":           frame(nil, good[:len(good)-1]),
		"left over":                frame(nil, append(slices.Clone(good), 'n')),
		"column count":             frame(nil, insert(text("1"), text("x"))),
		"insert with a key":        frame(nil, append([]byte("I\x00\x00\x00\x01K"), good[6:]...)),
		"insert with an unchanged": frame(nil, insert(text("1"), text("x"), change.Value{Kind: change.Unchanged})),
		"unknown kind":             frame(nil, insert(text("1"), text("x"), change.Value{Kind: 'b'})),
		"delete without a key":     frame(nil, append([]byte("D"), good[1:]...)),
		"truncate of too many":     frame(nil, []byte("T\xFF\xFF\xFF\xFF\x00\x00\x00\x00\x01")),
		"truncate of none":         frame(nil, []byte("T\x00\x00\x00\x00\x00")),
		"filters without a change": frame(nil, []byte("F\x00\x01\x00\x00\x00\x07\x01")),
		"filters cut":              frame(nil, []byte("F\x00\x02\x00\x00\x00\x07\x01I")),
		"filters alone":            frame(nil, []byte("F")),
		"unknown filter result":    frame(nil, append([]byte("F\x00\x01\x00\x00\x00\x07\x04"), good...)),
		"filters of a truncate":    frame(nil, []byte("F\x00\x00T\x00\x00\x00\x01\x00\x00\x00\x00\x01")),
		"filters of filters":       frame(nil, append([]byte("F\x00\x00F\x00\x00"), good...)),
		"condition cut":            frame(nil, []byte("T\x00\x00\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x05true")),
		"condition missing":        frame(nil, []byte("T\x00\x00\x00\x01\x04\x00\x00\x00\x01")),
		"condition empty":          frame(nil, []byte("T\x00\x00\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x00")),
		"condition of two":         frame(nil, []byte("T\x00\x00\x00\x02\x04\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04true")),
		"event without an end":     frame(nil, []byte("M\x0112345678channel")),
		"command without a role":   frame(nil, []byte("Qrole")),
		"command of too many sets": frame(nil, []byte("Qrole\x00\xFF\xFFset\x00")),
		"command without an end":   frame(nil, []byte("Qrole\x00\x00\x01set\x00\x00\x00\x00")),
		"command left over":        frame(nil, []byte("Qr\x00\x00\x00\x00\x00\x00\x00\x00\x01xy")),
		"event longer than itself": frame(nil, []byte("M\x0112345678c\x00\x00\x00\x00\x09x")),
	}
	for name, chunk := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := NewDecoder(testShapes).Decode(chunk, func(change.Change) error { return nil })
			var bad *MalformedError
			require.ErrorAs(t, err, &bad)
			require.NotEmpty(t, bad.Hint())
		})
	}
}

func TestErrorsOfOthersPass(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	c := change.Change{Op: change.Event, Channel: "c"}
	require.ErrorIs(t, NewDecoder(testShapes).Decode(frame(nil, encode(&c)), func(change.Change) error { return stop }), stop)
	unknown := frame(nil, []byte("I\x00\x00\x00\x63N\x00\x00"))
	require.ErrorContains(t, NewDecoder(testShapes).Decode(unknown, nil), "shape 99 is not known")
}

func FuzzDecode(f *testing.F) {
	for _, c := range []change.Change{
		{Op: change.Insert, Relation: testShapes[1], New: []change.Value{text("1"), text("x"), {Kind: change.Null}}},
		{Op: change.Update, Relation: testShapes[2], Old: []change.Value{text("1"), text("x")}, New: []change.Value{text("1"), {Kind: change.Unchanged}}},
		{Op: change.Delete, Relation: testShapes[1], Old: []change.Value{text("1"), {Kind: change.Null}, {Kind: change.Null}}},
		{Op: change.Truncate, Truncated: []*change.Relation{testShapes[1], testShapes[2]}},
		{Op: change.Truncate, Truncated: []*change.Relation{testShapes[1]}, Where: "true"},
		{Op: change.Event, Channel: "c", Payload: []byte("p")},
		{Op: change.Delete, Relation: testShapes[1], Old: []change.Value{text("1"), {Kind: change.Null}, {Kind: change.Null}},
			Filters: []change.FilterResult{{Filter: 1, Old: true}, {Filter: 2}}},
		{Op: change.DDL, Command: &change.Command{Role: "r", Sets: []string{"s"}, Settings: []change.Setting{{Name: "n", Value: "v"}}, Text: "t"}},
	} {
		f.Add(frame(nil, encode(&c)), 9)
	}
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		run := func(chunks ...[]byte) (got []change.Change, err error) {
			d := NewDecoder(testShapes)
			for _, chunk := range chunks {
				if err = d.Decode(chunk, func(c change.Change) error { got = append(got, c); return nil }); err != nil {
					return got, err
				}
			}
			return got, nil
		}
		whole, err := run(data)
		for i := range whole {
			for _, tuple := range [][]change.Value{whole[i].Old, whole[i].New} {
				require.True(t, tuple == nil || len(tuple) == len(whole[i].Relation.Columns))
			}
		}
		if err != nil || at < 5 || at >= len(data) {
			return
		}
		cut, err := run(data[:at], data[at:])
		if err != nil { // the cut split a length word
			return
		}
		for i := range min(len(cut), len(whole)) {
			if cut[i].Op != whole[i].Op {
				return // a split length word was read as another
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	relation := &change.Relation{Shape: 7, Schema: "public", Name: "t", Identity: 'd', Columns: make([]change.Column, 6)}
	relation.Columns[0].Key = true
	row := []change.Value{text("123456"), text("42"), text("4711"), text("some text of a row"), text("2024-05-01 12:34:56.789+00"), text("1234.56")}
	for _, op := range []change.Op{change.Insert, change.Update} {
		b.Run(op.String(), func(b *testing.B) {
			const rows = 60 // about 8 kB
			var chunk []byte
			for range rows {
				chunk = frame(chunk, encode(&change.Change{Op: op, Relation: relation, New: row}))
			}
			d := NewDecoder(shapeMap{7: relation})
			n := 0
			emit := func(c change.Change) error { n += len(c.New); return nil }
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := d.Decode(chunk, emit); err != nil {
					b.Fatal(err)
				}
				if i%80 == 0 {
					d.Recycle()
				}
			}
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
