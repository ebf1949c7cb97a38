package render

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// linkState is what of a session a command must not change for what is behind it.
const linkState = `SELECT concat_ws(' ', current_user, current_setting('role'), current_setting('search_path'), current_setting('DateStyle'),
	current_setting('TimeZone'), current_setting('standard_conforming_strings'), current_setting('row_security'))`

// TestCommandOnPostgres runs commands with odd texts, names and settings inside a
// transaction, and looks at what they were run with and what is left of that.
func TestCommandOnPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ctx := context.Background()
	value := func(sql string) (text string) {
		t.Helper()
		require.NoError(t, conn.QueryRow(ctx, sql).Scan(&text))
		return text
	}
	require.NoError(t, execute(conn, `CREATE ROLE "it's ""me"""; CREATE SCHEMA "of 'me'" AUTHORIZATION "it's ""me""";
		SET search_path = pg_catalog; SET row_security = off; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'`))
	before := value(linkState)
	script := &Script{}
	script.Append("BEGIN")
	script.Command(&change.Command{Role: `it's "me"`, Settings: []change.Setting{
		{Name: "search_path", Value: `"of 'me'", public`}, {Name: "DateStyle", Value: "German, DMY"},
		{Name: "TimeZone", Value: "Asia/Tokyo"}, {Name: "standard_conforming_strings", Value: "off"},
		{Name: "escape_string_warning", Value: "off"},
	}, Text: `CREATE TABLE "t $courier$" (d date DEFAULT '03.02.2001', at timestamptz DEFAULT '2001-02-03 12:00', s text DEFAULT 'a\'b$courier$');` +
		"-- the end\nCREATE VIEW seen AS SELECT current_setting('row_security')::text AS row_security; CREATE TABLE kept AS SELECT * FROM seen"}, 0, 0, false)
	require.NoError(t, execute(conn, script.String()))
	require.Equal(t, before, value(linkState), "inside the transaction, behind the command")
	require.NoError(t, execute(conn, `INSERT INTO "of 'me'"."t $courier$" DEFAULT VALUES; COMMIT`))
	require.Equal(t, before, value(linkState))
	require.Equal(t, "2001-02-03 2001-02-03 03:00:00+00 a'b$courier$ on", value(`SELECT concat_ws(' ', t.d, t.at, t.s, row_security)
		FROM "of 'me'"."t $courier$" t, "of 'me'".kept`))
	require.Equal(t, `it's "me"`, value(`SELECT tableowner FROM pg_tables WHERE tablename = 't $courier$'`))
	require.Len(t, script.Statements(), 3, "one statement a command, and one before it")

	// as the link's role
	script.Reset()
	script.Command(&change.Command{Role: "nobody", Text: "CREATE TABLE public.mine ()"}, 0, 0, true)
	require.NoError(t, execute(conn, script.String()))
	require.Equal(t, value("SELECT current_user"), value("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'"))

	// a text can't end the transaction, and a role must be there
	refused := func(c *change.Command, state, says string) {
		t.Helper()
		script.Reset()
		script.Append("CREATE TEMP TABLE left_over ()")
		script.Command(c, 0, 0, false)
		var db *pgconn.PgError
		require.ErrorAs(t, execute(conn, script.String()), &db)
		require.Equal(t, state, db.Code, db.Message)
		require.Contains(t, db.Message, says)
		require.Equal(t, "0", value("SELECT count(*)::text FROM pg_class WHERE relname = 'left_over'"))
		require.Equal(t, before, value(linkState))
	}
	refused(&change.Command{Role: "nobody", Text: "CREATE TABLE public.x ()"}, "42704", "does not exist on the node")
	refused(&change.Command{Role: `it's "me"`, Text: `CREATE TABLE "of 'me'".x (); COMMIT`}, "0A000", "transaction commands")
	refused(&change.Command{Role: `it's "me"`, Text: "DROP TABLE public.mine"}, "42501", "must be owner")
	require.NoError(t, execute(conn, `CREATE ROLE poor; SET ROLE poor`))
	before = value(linkState)
	refused(&change.Command{Role: `it's "me"`, Text: "CREATE TABLE public.x ()"}, "42501", "can't act for it")
}
