package render

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// TestSets writes columns whose values can and can't be sent as one text, and reads
// them back.
func TestSets(t *testing.T) {
	conn := connect(t)
	const null = "∅"
	for name, values := range map[string][]string{
		"texts":                 {"a", "it's", `"\`, "null", "NULL", " {,} ", "é😀\n\t"},
		"nulls":                 {null, "", "x", null},
		"nothing":               {"", ""},
		"only nulls":            {null, null},
		"a separator":           {"a", "b\x1fc", null},
		"only a separator":      {"a", "\x1f"},
		"what stands for NULL":  {"\x1a", null, "b"},
		"that within a text":    {"a\x1a", "\x1a\x1a", null},
		"quotes at both ends":   {"'", "''", "'a'"},
		"more than a statement": {strings.Repeat("x", insertBytes/2), strings.Repeat("'", insertBytes/2), "c", strings.Repeat("y", 2*insertBytes), null},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, execute(conn, `DROP TABLE IF EXISTS public.set; CREATE TABLE public.set (id int PRIMARY KEY, a text, b varchar(2000000), c text[], d bytea, e jsonb)`))
			relation := &change.Relation{Shape: 1, OID: 1, Name: "set", Identity: 'd', Columns: []change.Column{
				{Name: "id", Key: true}, {Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}}
			target, err := Compile(relation, readTable(t, conn, "public", "set"), nil)
			require.NoError(t, err)
			var inserts, updates []change.Change
			for i, value := range values {
				array, bytes, object := null, null, null
				if value != null {
					array = `{"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"}`
					bytes = fmt.Sprintf(`\x%x`, value)
					object = fmt.Sprintf(`{"%d": "it's"}`, i)
				}
				inserts = append(inserts, ins(relation, fmt.Sprint(i), value, value, array, bytes, object))
				updates = append(updates, upd(relation, fmt.Sprint(i), value+"!", value, array, bytes, object))
			}
			check := func(suffix string) {
				rows, err := conn.Query(context.Background(), fmt.Sprintf(`
					SELECT coalesce(a, '%[1]s%[2]s') FROM public.set
					WHERE coalesce(b = c[1] AND d = convert_to(b, 'UTF8') AND e = jsonb_build_object(id::text, 'it''s'), num_nonnulls(b, c, d, e) = 0)
					ORDER BY id`, null, suffix))
				require.NoError(t, err)
				got, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				require.Len(t, got, len(values))
				for i := range got {
					require.True(t, got[i] == values[i]+suffix, "row %d", i)
				}
			}
			require.NoError(t, execute(conn, set(t, targetMap{relation: target}, Options{}, inserts...).String()))
			check("")
			require.NoError(t, execute(conn, set(t, targetMap{relation: target}, Options{}, updates...).String()))
			check("!")
		})
	}
}

func TestWideRowsAreSeveralStatements(t *testing.T) {
	t.Parallel()
	targets := allTargets(t)
	var changes []change.Change
	for i := range 100 {
		changes = append(changes, ins(accounts, fmt.Sprint(i), strings.Repeat("x", insertBytes/10), "∅"))
	}
	statements := set(t, targets, Options{}, changes...).Statements()
	rows := 0
	for _, statement := range statements {
		require.LessOrEqual(t, statement.Rows, 10)
		require.Equal(t, 10+rows, statement.Tx, "the first transaction of each")
		rows += statement.Rows
	}
	require.Equal(t, 100, rows)
	require.LessOrEqual(t, len(statements), 12)
}
