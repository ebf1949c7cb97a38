package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

func TestParseRelationRoundTrip(t *testing.T) {
	t.Parallel()
	name := rapid.StringMatching(`[a-zA-Zé" .]{0,10}`)
	rapid.Check(t, func(t *rapid.T) {
		want := &change.Relation{
			Shape: rapid.Uint32().Draw(t, "shape"), Schema: name.Draw(t, "schema"), Name: name.Draw(t, "name"),
			Identity: rapid.SampledFrom([]byte("dnif")).Draw(t, "identity"), Columns: []change.Column{},
		}
		for range rapid.IntRange(0, 5).Draw(t, "columns") {
			want.Columns = append(want.Columns, change.Column{
				Name: name.Draw(t, "column"), TypeOID: rapid.Uint32().Draw(t, "type"),
				TypeMod: rapid.Int32().Draw(t, "typmod"), Key: rapid.Bool().Draw(t, "key"),
			})
		}
		got, err := ParseRelation(encodeRelation(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestParseRelationMalformed(t *testing.T) {
	t.Parallel()
	good := encodeRelation(testShapes[1])
	for n := range good {
		_, err := ParseRelation(good[:n])
		var bad *MalformedError
		require.ErrorAs(t, err, &bad, "cut to %d bytes", n)
	}
	for _, definition := range []string{"", "X", string(good) + "x", strings.Replace(string(good), "keyed\x00d", "keyed\x00z", 1)} {
		_, err := ParseRelation([]byte(definition))
		require.Error(t, err, "%q", definition)
	}
}

func FuzzParseRelation(f *testing.F) {
	for _, r := range testShapes {
		f.Add(encodeRelation(r))
	}
	f.Fuzz(func(t *testing.T, definition []byte) {
		r, err := ParseRelation(definition)
		if err != nil {
			return
		}
		again, err := ParseRelation(encodeRelation(r))
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}
