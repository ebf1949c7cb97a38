package ship

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTypesThatReadEachOther(t *testing.T) {
	t.Parallel()
	facts := func(text string) *typeFacts { return parseFacts([]byte(text)) }
	types := map[string]*typeFacts{
		"int4": facts("N\x01int4"), "int8": facts("N\x01int8"), "numeric": facts("N\x01numeric"), "money": facts("N\x01money"),
		"regclass": facts("N\x01regclass"), "text": facts("S\x01text"), "varchar": facts("S\x01varchar"), "name": facts("S\x01name"),
		"date": facts("D\x01date"), "timestamptz": facts("D\x01timestamptz"), "time": facts("D\x01time"), "uuid": facts("U\x01uuid"),
		"json": facts("U\x01json"), "jsonb": facts("U\x01jsonb"), "hstore": facts("U\x01hstore"), "bool": facts("B\x01bool"),
		"mood": facts("E\x01mood\x01sad\x02ok"), "humour": facts("E\x01humour\x01ok\x02sad\x02odd"),
		"int4[]": facts("AN\x01int4"), "int8[]": facts("AN\x01int8"), "text[]": facts("AS\x01text"),
	}
	fits := map[string][]string{
		"int4": {"int8", "numeric"}, "int8": {"int4", "numeric"}, "numeric": {"int4", "int8"},
		"date": {"timestamptz"}, "timestamptz": {"date"}, "json": {"jsonb"}, "jsonb": {"json"},
		"mood": {"humour"}, "humour": {"mood"}, "int4[]": {"int8[]", "text[]"}, "int8[]": {"int4[]", "text[]"},
	}
	for name, source := range types {
		for other, target := range types {
			want := name == other || target.category == "S"
			for _, fit := range fits[name] {
				want = want || fit == other
			}
			require.Equal(t, want, source.fits(target), "%s into %s", name, other)
		}
	}
	require.Nil(t, facts(""), "a type that was dropped")
}

func TestMissingLabels(t *testing.T) {
	t.Parallel()
	source := parseFacts([]byte("E\x01mood\x01new\x02sad\x02it's\x02ok"))
	target := parseFacts([]byte("E\x01mood\x01sad\x02odd"))
	missing := source.missingLabels(target)
	require.Equal(t, []string{"new", "it's", "ok"}, missing)
	require.Equal(t, "ALTER TYPE mood ADD VALUE 'new' BEFORE 'sad'; ALTER TYPE mood ADD VALUE 'it''s' AFTER 'sad'; "+
		"ALTER TYPE mood ADD VALUE 'ok' AFTER 'it''s';", addLabels("mood", source.labels, missing))
	require.Empty(t, source.missingLabels(parseFacts([]byte("S\x01text"))), "no enum")
	require.Empty(t, target.missingLabels(target))
}
