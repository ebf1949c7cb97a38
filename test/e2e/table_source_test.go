package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// An unlogged table is sent as any other. A crash of the source empties it there,
// which is no change: the node keeps the rows, and what is written afterwards
// arrives.
func TestUnloggedTableAndCrash(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.onSource("CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, v text)")
	r.onTarget("CREATE TABLE fleeting (id int PRIMARY KEY, v text)")
	r.onBoth("CREATE TABLE lasting (id int PRIMARY KEY, v text)")
	r.onSource("INSERT INTO fleeting VALUES (1, 'copied')")
	r.add("default", "fleeting", "lasting")
	r.subscribe("{default}", true)
	r.ship()
	r.onSource("INSERT INTO fleeting VALUES (2, 'sent')")
	r.ship()
	r.requireEqual("fleeting")
	r.onSource("INSERT INTO fleeting VALUES (3, 'queued'); INSERT INTO lasting VALUES (3, 'queued')")
	require.NoError(t, r.source.Kill9())
	require.NoError(t, r.source.Start(t.Context()))
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM fleeting"))
	r.onSource("INSERT INTO fleeting VALUES (1, 'again'), (4, 'after')")
	r.ship()
	require.Equal(t, "1 again, 2 sent, 3 queued, 4 after",
		r.targetValue("SELECT string_agg(id || ' ' || v, ', ' ORDER BY id) FROM fleeting"))
	r.requireEqual("lasting")
}

// A source in LATIN1 is shipped by the sidecar to a node in UTF8: copy, rows,
// keys, names and errors.
func TestSourceInLatin1(t *testing.T) {
	r := startBare(t)
	conn := r.source.Connect(t, "postgres")
	for _, sql := range []string{"DROP DATABASE app", "CREATE DATABASE app TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
		"ALTER DATABASE app SET client_encoding = 'UTF8'"} { // what the test writes
		_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	r.install(r.target.DSN(appDatabase))
	r.onBoth(`CREATE TABLE "straße" ("größe" text PRIMARY KEY, v text)`)
	r.onSource(`INSERT INTO "straße" VALUES ('äÿ', 'copied: ñ')`)
	r.add("default", `"straße"`)
	courier := r.startSidecar()
	r.subscribe("{default}", true)
	r.wait()
	r.onSource(`INSERT INTO "straße" VALUES ('ö', 'ß'), ('é', 'gone'); UPDATE "straße" SET v = v || 'å'; DELETE FROM "straße" WHERE "größe" = 'é'`)
	r.wait()
	require.Equal(t, "ö ßå 4, äÿ copied: ñå 12", r.targetValue(`SELECT string_agg(concat_ws(' ', "größe", v, octet_length(v)), ', ' ORDER BY "größe" DESC) FROM "straße"`))
	r.onTarget(`ALTER TABLE "straße" ADD CHECK ("größe" <> 'æ')`)
	r.onSource(`INSERT INTO "straße" VALUES ('æ', 'refused')`)
	r.source.Eventually(t, appDatabase, `SELECT concat_ws(' ', state, last_error_table, last_error_key) FROM courier.subscription_status`,
		`stopped public."straße" größe=æ`, patience)
	r.onTarget(`ALTER TABLE "straße" DROP CONSTRAINT "straße_größe_check"`)
	r.source.Eventually(t, appDatabase, "SELECT state FROM courier.subscription_status", "streaming", patience)
	r.wait()
	require.Equal(t, "3", r.targetValue(`SELECT count(*) FROM "straße"`))
	courier.stop()
}
