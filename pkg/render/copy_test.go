package render

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// Rows are copied in binary if the types are the same, and are types that allow it.
func TestCopyFormat(t *testing.T) {
	t.Parallel()
	const integer, bigint, texts, own = 23, 20, 1009, 16384
	for _, c := range []struct {
		source uint32
		target string
		view   bool
		binary bool
	}{
		{source: integer, target: "integer", binary: true},
		{source: integer, target: "integer", view: true},
		{source: integer, target: "bigint"},
		{source: bigint, target: "integer"},
		{source: texts, target: "text[]"},
		{source: own, target: "public.own"},
		{source: own, target: ""},
	} {
		relation := &change.Relation{Schema: "public", Name: "t", Identity: 'd',
			Columns: []change.Column{{Name: "id", Key: true, TypeOID: integer}, {Name: "o'v", TypeOID: c.source}}}
		target := compile(t, relation, &Table{Schema: "public", Name: "t", View: c.view,
			Columns: []Column{{Name: "id", Type: "integer"}, {Name: "o'v", Type: c.target}}}, nil)
		rows := target.Rows(Fail, nil, "")
		if !c.binary {
			require.Equal(t, `COPY "public"."t" ("id", "o'v") FROM STDIN`, target.Copy(&rows), c)
			require.Empty(t, target.AfterCopy(&rows), c)
			continue
		}
		require.Equal(t, `COPY "public"."t" ("id", "o'v") FROM STDIN WITH (FORMAT binary)`, target.Copy(&rows), c)
		require.Equal(t, `SELECT courier_target.check_types('"public"."t"'::pg_catalog.regclass, ARRAY['"id"', '"o''v"'], ARRAY['integer', 'integer']);`+"\n",
			target.AfterCopy(&rows), c)
	}
}
