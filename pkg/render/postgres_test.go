package render

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// The tables of both ways of writing; %s is the schema.
const realTables = `
DROP SCHEMA IF EXISTS "render %[1]s" CASCADE;
CREATE SCHEMA "render %[1]s";
SET search_path = "render %[1]s";
CREATE TYPE mood AS ENUM ('so so', 'it''s ok');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE "every ""type""" (
    "extra" text DEFAULT 'kept', "Id" int, "key 2" text, n numeric(12,2), ts timestamptz, b bool, raw bytea, m mood,
    d positive, j jsonb, list int[], texts text[], p pair, c char(5), v varchar(20), bx box, fl float8, iv interval,
    always int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS ("Id" * 2) STORED,
    CONSTRAINT "a key" PRIMARY KEY ("Id", "key 2"));
CREATE TABLE bag (a int, note text) PARTITION BY LIST (a);
CREATE TABLE bag_1 PARTITION OF bag FOR VALUES IN (1);
CREATE TABLE bag_rest PARTITION OF bag DEFAULT;
RESET search_path`

const realTarget = `
CREATE SCHEMA IF NOT EXISTS courier_target;
CREATE TABLE IF NOT EXISTS courier_target.event (id bigint GENERATED ALWAYS AS IDENTITY, subscription uuid, channel text, payload text);
TRUNCATE courier_target.event RESTART IDENTITY;
CREATE OR REPLACE FUNCTION courier_target.check_updated(found bigint, expected bigint, relation text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF $1 <> expected THEN -- plpgsql has a FOUND of its own
        RAISE EXCEPTION 'found % of % rows of %', $1, expected, relation USING ERRCODE = 'PC002';
    END IF;
END $$`

// readTable reads a table's description as the transport does.
func readTable(t *testing.T, conn *pgx.Conn, schema, name string) *Table {
	table := &Table{Schema: schema, Name: name}
	rows, err := conn.Query(context.Background(), `
		SELECT a.attname, format_type(a.atttypid, -1), y.typarray <> 0 AND y.typdelim = ',' AND y.typtype <> 'c' AND y.typcategory <> 'A',
		       a.attgenerated <> '', a.attidentity::text
		FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid JOIN pg_namespace s ON s.oid = r.relnamespace JOIN pg_type y ON y.oid = a.atttypid
		WHERE s.nspname = $1 AND r.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, schema, name)
	require.NoError(t, err)
	for rows.Next() {
		var c Column
		var identity string
		require.NoError(t, rows.Scan(&c.Name, &c.Type, &c.Direct, &c.Generated, &identity))
		if identity != "" {
			c.Identity = identity[0]
		}
		table.Columns = append(table.Columns, c)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, table.Columns)
	return table
}

func connect(t *testing.T) *pgx.Conn {
	cluster := pgtest.Start(t, pgtest.Name("render"))
	return cluster.Connect(t, "postgres")
}

func execute(conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
	return err
}

// TestPostgres writes the same changes both ways and compares the tables.
func TestPostgres(t *testing.T) {
	conn := connect(t)
	names := []string{"Id", "key 2", "n", "ts", "b", "raw", "m", "d", "j", "list", "texts", "p", "c", "v", "bx", "fl", "iv", "always", "twice"}
	keyed := &change.Relation{Shape: 1, OID: 1, Name: `every "type"`, Identity: 'd'}
	for i, name := range names {
		keyed.Columns = append(keyed.Columns, change.Column{Name: name, Key: i < 2})
	}
	bag := &change.Relation{Shape: 2, OID: 2, Name: "bag", Identity: 'f', Columns: []change.Column{{Name: "a", Key: true}, {Name: "note", Key: true}}}
	row := func(id int, key, text string) []string {
		return []string{fmt.Sprint(id), key, "1234.50", "2024-05-01 12:34:56.789+05:45", "t", `\x00ff5c27`, "it's ok", "7", `{"a": "\"'\\ é"}`,
			"[0:1][1:2]={{1,NULL},{3,4}}", `{"a,b",NULL,"NULL","","\"\\'"}`, `(1,"x ""'\\")`, "ab", text, "(2,2),(1,1)", "-Infinity", "1 mon 2 days 03:04:05.6", "41", "9"}
	}
	nulls := []string{"3", "", "∅", "infinity", "∅", `\x`, "∅", "∅", "null", "{}", "∅", "∅", "∅", "null", "∅", "NaN", "∅", "43", "6"}
	keep := func(v []string, kept ...int) []string {
		for _, i := range kept {
			v[i] = "~"
		}
		return v
	}
	odd := "\\'\"\n{},$1 é😀"
	key := func(id, key string) []change.Value {
		v := []string{id, key}
		for range names[2:] {
			v = append(v, "∅")
		}
		return tuple(v...)
	}
	changes := []change.Change{
		ins(keyed, row(1, odd, odd)...), ins(keyed, row(2, "x", "")...), ins(keyed, nulls...), ins(keyed, row(4, "d", "d")...),
		ins(bag, "1", odd), ins(bag, "1", odd), ins(bag, "2", "∅"), ins(bag, "2", "x"),
	}
	second := []change.Change{
		upd(keyed, keep(row(1, odd, "new "+odd), 17)...),
		upd(keyed, keep(row(2, "x", "new"), 17)...),
		mov(key("3", ""), upd(keyed, keep(row(33, "moved", "z"), 8, 9, 17)...)),
		{Op: change.Delete, Relation: keyed, Old: key("4", "d")},
		ups(keyed, row(5, "u", "u")...), ups(keyed, keep(row(6, "u", "v"))...),
		mov(tuple("1", odd), upd(bag, "2", "moved")), del(bag, "2", "∅"), upd(keyed, keep(row(33, "moved", "y"), 8, 9, 17)...),
		event("c", odd), event("d'", ""),
	}
	third := []change.Change{
		{Op: change.Delete, Relation: keyed, Old: key("5", "u")}, {Op: change.Delete, Relation: keyed, Old: key("1", odd)},
		{Op: change.Update, Relation: keyed, New: tuple(keep(row(2, "x", "last"), 2, 3, 17)...)},
	}
	// As the third, but this row is missing.
	lost := upd(keyed, keep(row(99, "x", "last"), 17)...)

	dump := map[string]string{}
	for _, way := range []string{"by set", "by row"} {
		require.NoError(t, execute(conn, "RESET ALL; SET timezone = 'UTC';"+fmt.Sprintf(realTables, way)+";"+realTarget))
		schema := "render " + way
		targets := targetMap{}
		for _, relation := range []*change.Relation{keyed, bag} {
			target, err := Compile(relation, readTable(t, conn, schema, relation.Name), nil)
			require.NoError(t, err)
			targets[relation] = target
		}
		// Types outside pg_catalog must be named in full from here on.
		require.NoError(t, execute(conn, "SET search_path = pg_catalog; SET enable_hashjoin = off; SET enable_mergejoin = off"))
		options := &Options{CheckUpdates: true, Subscription: "7d444840-9dc0-11d1-b245-5ffdce74fad2", Policy: Error}
		for _, part := range [][]change.Change{changes, second, third} {
			var s Script
			if way == "by set" {
				f := batch.New()
				for i := range part {
					f.Add(&part[i], i)
				}
				for _, segment := range f.Segments() {
					require.NoError(t, s.Segment(&segment, targets, options))
				}
			} else {
				for i := range part {
					require.NoError(t, s.Change(&part[i], i, i, targets, options))
				}
			}
			require.NoError(t, execute(conn, s.String()), "%s", s.String())
		}
		var lines []string
		for _, query := range []string{
			fmt.Sprintf(`SELECT (t.*)::text FROM %s t ORDER BY "Id"`, appendName(nil, schema, keyed.Name)),
			fmt.Sprintf(`SELECT (t.*)::text FROM %s t ORDER BY 1`, appendName(nil, schema, bag.Name)),
			`SELECT (t.*)::text FROM courier_target.event t ORDER BY id`,
		} {
			rows, err := conn.Query(context.Background(), query)
			require.NoError(t, err)
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			lines = append(lines, got...)
		}
		dump[way] = strings.Join(lines, "\n")

		for _, policy := range []Policy{ApplyRemote, KeepLocal, Error} {
			var s Script
			require.NoError(t, s.Change(&lost, 0, 0, targets, &Options{Policy: policy}))
			err := execute(conn, s.String())
			if policy == KeepLocal {
				require.NoError(t, err)
				continue
			}
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
			require.Equal(t, "PC002", pgErr.Code)
		}
		// An update that carries the whole row puts the missing row back, and
		// one by ApplyRemote meets a row that is there already.
		back := upd(bag, "8", "not there")
		back.Old = tuple("7", "lost")
		again := ups(keyed, row(2, "x", "again")...)
		again.Op = change.Insert
		for _, c := range []change.Change{back, again} {
			var s Script
			require.NoError(t, s.Change(&c, 0, 0, targets, &Options{Policy: ApplyRemote}))
			require.NoError(t, execute(conn, s.String()), "%s", s.String())
		}
		var n int
		require.NoError(t, conn.QueryRow(context.Background(), fmt.Sprintf(
			`SELECT (SELECT count(*) FROM %s WHERE a = 8) + (SELECT count(*) FROM %s WHERE v = 'again')`,
			appendName(nil, schema, bag.Name), appendName(nil, schema, keyed.Name))).Scan(&n))
		require.Equal(t, 2, n)
		require.NoError(t, execute(conn, fmt.Sprintf(`DROP SCHEMA %s CASCADE`, appendIdent(nil, schema))))
	}
	require.NoError(t, execute(conn, `DROP SCHEMA courier_target CASCADE`))
	require.Equal(t, dump["by row"], dump["by set"])
	// Eight rows, two of which hold a line break.
	require.Equal(t, 3+3+2+2, strings.Count(dump["by set"], "\n")+1, "%s", dump["by set"])
	require.Contains(t, dump["by set"], "kept")
	require.Contains(t, dump["by set"], "1234.50")
}
