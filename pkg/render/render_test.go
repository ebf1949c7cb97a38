package render

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

type targetMap map[*change.Relation]*Target

func (m targetMap) Target(r *change.Relation) (*Target, error) { return m[r], nil }

var (
	accounts = &change.Relation{Shape: 1, OID: 1, Schema: "public", Name: "accounts", Identity: 'd', Columns: []change.Column{
		{Name: "id", Key: true}, {Name: "na\"me"}, {Name: "tags"}}}
	pairs = &change.Relation{Shape: 2, OID: 2, Schema: "public", Name: "pairs", Identity: 'd', Columns: []change.Column{
		{Name: "a", Key: true}, {Name: "b", Key: true}}}
	logs  = &change.Relation{Shape: 3, OID: 3, Schema: "public", Name: "logs", Identity: 'd', Columns: []change.Column{{Name: "line"}}}
	whole = &change.Relation{Shape: 4, OID: 4, Schema: "public", Name: "whole", Identity: 'f', Columns: []change.Column{
		{Name: "a", Key: true}, {Name: "b", Key: true}}}

	accountsTable = &Table{Schema: "public", Name: "accounts", Columns: []Column{
		{Name: "tags", Type: "text[]"}, {Name: "id", Type: "bigint", Direct: true, Identity: 'd'},
		{Name: "na\"me", Type: "text", Direct: true}, {Name: "extra", Type: "text", Direct: true}}}
	intPair = []Column{{Name: "a", Type: "integer", Direct: true}, {Name: "b", Type: "integer", Direct: true}}
)

func compile(t *testing.T, r *change.Relation, table *Table, filter *Filter) *Target {
	t.Helper()
	target, err := Compile(r, table, filter)
	require.NoError(t, err)
	return target
}

func allTargets(t *testing.T) targetMap {
	return targetMap{
		accounts: compile(t, accounts, accountsTable, nil),
		pairs:    compile(t, pairs, &Table{Schema: "public", Name: "pairs", Columns: intPair}, nil),
		logs:     compile(t, logs, &Table{Schema: "public", Name: "logs", Only: true, Columns: []Column{{Name: "line", Type: "text", Direct: true}}}, nil),
		whole:    compile(t, whole, &Table{Schema: "public", Name: "whole", Columns: intPair}, nil),
	}
}

func tuple(values ...string) []change.Value {
	out := make([]change.Value, len(values))
	for i, v := range values {
		switch v {
		case "∅":
			out[i].Kind = change.Null
		case "~":
			out[i].Kind = change.Unchanged
		default:
			out[i] = change.Value{Kind: change.Text, Data: []byte(v)}
		}
	}
	return out
}

func ins(r *change.Relation, v ...string) change.Change {
	return change.Change{Op: change.Insert, Relation: r, New: tuple(v...)}
}
func ups(r *change.Relation, v ...string) change.Change {
	return change.Change{Op: change.Upsert, Relation: r, New: tuple(v...)}
}
func upd(r *change.Relation, v ...string) change.Change {
	return change.Change{Op: change.Update, Relation: r, New: tuple(v...)}
}
func mov(old []change.Value, c change.Change) change.Change { c.Old = old; return c }
func del(r *change.Relation, v ...string) change.Change {
	return change.Change{Op: change.Delete, Relation: r, Old: tuple(v...)}
}
func event(channel, payload string) change.Change {
	return change.Change{Op: change.Event, Channel: channel, Payload: []byte(payload)}
}

func set(t *testing.T, targets Targets, options Options, changes ...change.Change) *Script {
	t.Helper()
	f := batch.New()
	for i := range changes {
		f.Add(&changes[i], i+10)
	}
	var s Script
	for _, segment := range f.Segments() {
		require.NoError(t, s.Segment(&segment, targets, &options))
	}
	return &s
}

func TestSetBased(t *testing.T) {
	t.Parallel()
	targets := allTargets(t)
	tests := []struct {
		name    string
		changes []change.Change
		want    string
	}{
		{"insert one", []change.Change{ins(accounts, "1", "it's", "{a,b}")},
			`INSERT INTO "public"."accounts" ("id", "na""me", "tags") OVERRIDING SYSTEM VALUE VALUES ('1', 'it''s', '{a,b}')`},
		{"insert many", []change.Change{ins(accounts, "1", `x'"\`, "∅"), ins(accounts, "2", "", "{a}")},
			`INSERT INTO "public"."accounts" ("id", "na""me", "tags") OVERRIDING SYSTEM VALUE SELECT pg_catalog.unnest('{1,2}'::bigint[]), pg_catalog.unnest(pg_catalog.string_to_array('x''"\` + "\x1f', '\x1f')), pg_catalog.unnest(pg_catalog.string_to_array('\x1a\x1f{a}', '\x1f', '\x1a'))::text[]"},
		{"upsert", []change.Change{ups(accounts, "1", "x", "∅")},
			`INSERT INTO "public"."accounts" ("id", "na""me", "tags") OVERRIDING SYSTEM VALUE VALUES ('1', 'x', NULL) ON CONFLICT ("id") DO UPDATE SET "na""me" = EXCLUDED."na""me", "tags" = EXCLUDED."tags"`},
		{"upsert of a key", []change.Change{ups(pairs, "1", "2"), ups(pairs, "1", "3")},
			`INSERT INTO "public"."pairs" ("a", "b") SELECT pg_catalog.unnest('{1,1}'::integer[]), pg_catalog.unnest('{2,3}'::integer[]) ON CONFLICT ("a", "b") DO NOTHING`},
		{"delete one", []change.Change{del(pairs, "1", "2")},
			`DELETE FROM "public"."pairs" AS t WHERE t."a" = '1'::integer AND t."b" = '2'::integer`},
		{"delete many", []change.Change{del(accounts, "1", "∅", "∅"), del(accounts, "2", "∅", "∅")},
			`DELETE FROM "public"."accounts" AS t USING (SELECT pg_catalog.unnest('{1,2}'::bigint[]) AS k0) AS u WHERE t."id" >= u.k0 AND t."id" <= u.k0`},
		{"update one", []change.Change{upd(accounts, "1", "x", "~")},
			`WITH u AS (UPDATE "public"."accounts" AS t SET "na""me" = 'x' WHERE t."id" = '1'::bigint RETURNING 1) SELECT courier_target.check_updated(pg_catalog.count(*), 1, 'public.accounts') FROM u`},
		{"update many", []change.Change{upd(accounts, "1", "x", "~"), upd(accounts, "2", "∅", "~")},
			`WITH u AS (UPDATE "public"."accounts" AS t SET "na""me" = u.c1 FROM (SELECT pg_catalog.unnest('{1,2}'::bigint[]) AS k0, pg_catalog.unnest(pg_catalog.string_to_array('` + "x\x1f\x1a', '\x1f', '\x1a" + `')) AS c1) AS u WHERE t."id" >= u.k0 AND t."id" <= u.k0 RETURNING 1) SELECT courier_target.check_updated(pg_catalog.count(*), 2, 'public.accounts') FROM u`},
		{"update keys", []change.Change{mov(tuple("1", "2"), upd(pairs, "1", "3")), mov(tuple("2", "2"), upd(pairs, "2", "3"))},
			`WITH u AS (UPDATE "public"."pairs" AS t SET "a" = u.c0, "b" = u.c1 FROM (SELECT pg_catalog.unnest('{1,2}'::integer[]) AS k0, pg_catalog.unnest('{2,2}'::integer[]) AS k1, pg_catalog.unnest('{1,2}'::integer[]) AS c0, pg_catalog.unnest('{3,3}'::integer[]) AS c1) AS u WHERE t."a" >= u.k0 AND t."a" <= u.k0 AND t."b" >= u.k1 AND t."b" <= u.k1 RETURNING 1) SELECT courier_target.check_updated(pg_catalog.count(*), 2, 'public.pairs') FROM u`},
		{"event", []change.Change{event("c", "it's")},
			`INSERT INTO courier_target.event (subscription, channel, payload) VALUES ('s-1', 'c', 'it''s')`},
		{"events", []change.Change{event("c", "it's"), event("d", "")},
			`INSERT INTO courier_target.event (subscription, channel, payload) SELECT 's-1'::pg_catalog.uuid, pg_catalog.unnest('{c,d}'::pg_catalog.text[]), pg_catalog.unnest('{"it''s",""}'::pg_catalog.text[])`},
		{"truncate", []change.Change{{Op: change.Truncate, Truncated: []*change.Relation{accounts, pairs}, Restart: true, Cascade: true}},
			`SELECT courier_target.check_deferred(ARRAY['"public"."accounts"', '"public"."pairs"']::pg_catalog.regclass[])` + ";\n" +
				`TRUNCATE TABLE "public"."accounts", "public"."pairs" RESTART IDENTITY CASCADE`},
		{"truncate what others inherit from", []change.Change{{Op: change.Truncate, Truncated: []*change.Relation{logs, pairs}}},
			`SELECT courier_target.check_deferred(ARRAY['"public"."logs"', '"public"."pairs"']::pg_catalog.regclass[])` + ";\n" +
				`TRUNCATE TABLE ONLY "public"."logs", "public"."pairs"`},
		{"truncate with what is to be copied", []change.Change{{Op: change.Truncate, Truncated: []*change.Relation{pairs}, Restart: true,
			Uncopied: []change.Uncopied{{Relation: logs, KeepRows: true}, {Relation: whole}}}},
			`SELECT courier_target.check_deferred(ARRAY['"public"."pairs"']::pg_catalog.regclass[])` + ";\n" +
				`SELECT courier_target.truncate_with('TRUNCATE TABLE "public"."pairs"', ' RESTART IDENTITY', ARRAY['"public"."logs"', '"public"."whole"'], ARRAY[true, false])`},
		{"truncate a partition", []change.Change{{Op: change.Truncate, Truncated: []*change.Relation{pairs}, Where: "(a = 1)"}},
			`DELETE FROM "public"."pairs" WHERE (a = 1)`},
		{"delete by the whole row", []change.Change{del(whole, "1", "∅")},
			`DELETE FROM "public"."whole" AS t WHERE (t.tableoid, t.ctid) = (SELECT r.tableoid, r.ctid FROM "public"."whole" AS r WHERE r."a"::pg_catalog.text COLLATE "C" = '1'::integer::pg_catalog.text AND r."b"::pg_catalog.text IS NULL LIMIT 1)`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := set(t, targets, Options{CheckUpdates: true, Subscription: "s-1"}, test.changes...)
			require.Equal(t, test.want, s.String())
		})
	}
}

func TestOrderAndStatements(t *testing.T) {
	t.Parallel()
	targets := allTargets(t)
	rank := func(r *change.Relation) int { // accounts refer to pairs
		if r == pairs {
			return 0
		}
		return 1
	}
	s := set(t, targets, Options{Rank: rank},
		event("c", "p"), ins(accounts, "1", "x", "∅"), del(pairs, "1", "2"), ins(pairs, "3", "3"), del(accounts, "5", "∅", "∅"), upd(accounts, "7", "x", "~"))
	type brief struct {
		relation *change.Relation
		op       change.Op
		tx       int
	}
	var got []brief
	for _, statement := range s.Statements() {
		require.Equal(t, 1, statement.Rows)
		require.Equal(t, -1, statement.Change)
		got = append(got, brief{statement.Relation, statement.Op, statement.Tx})
	}
	require.Equal(t, []brief{
		{accounts, change.Delete, 14}, {pairs, change.Delete, 12}, {accounts, change.Update, 15},
		{pairs, change.Insert, 13}, {accounts, change.Insert, 11}, {nil, change.Event, 10},
	}, got)
	s.Append("SELECT 1")
	require.Len(t, s.Statements(), 7)
	s.Reset()
	require.Zero(t, s.Len())
}

func TestRowByRow(t *testing.T) {
	t.Parallel()
	targets := allTargets(t)
	const head = `INSERT INTO "public"."accounts" ("id", "na""me", "tags") OVERRIDING SYSTEM VALUE `
	const update = `UPDATE "public"."accounts" AS t SET "na""me" = 'x', "tags" = NULL WHERE t."id" = '1'::bigint`
	const onConflict = ` ON CONFLICT ("id") DO UPDATE SET "na""me" = EXCLUDED."na""me", "tags" = EXCLUDED."tags"`
	const check = ` RETURNING 1) SELECT courier_target.check_updated(pg_catalog.count(*), 1, 'public.accounts') FROM u`
	tests := []struct {
		name     string
		policy   Policy
		change   change.Change
		expected int
		want     string
	}{
		{"insert, remote", ApplyRemote, ins(accounts, "1", "x", "∅"), 1, `WITH i AS (` + head + `VALUES ('1', 'x', NULL)` + onConflict + `) SELECT 1 - pg_catalog.count(*) FROM "public"."accounts" AS t WHERE t."id" = '1'::bigint`},
		{"insert, local", KeepLocal, ins(accounts, "1", "x", "∅"), 1, head + `VALUES ('1', 'x', NULL) ON CONFLICT DO NOTHING`},
		{"insert, error", Error, ins(accounts, "1", "x", "∅"), 0, head + `VALUES ('1', 'x', NULL)`},
		{"insert without a key", ApplyRemote, ins(logs, "x"), 0, `INSERT INTO "public"."logs" ("line") VALUES ('x')`},
		{"update, remote", ApplyRemote, upd(accounts, "1", "x", "∅"), 1, `WITH u AS (` + update + ` RETURNING 1), i AS (` + head + `SELECT '1', 'x', NULL WHERE NOT EXISTS (SELECT FROM u)` + onConflict + `) SELECT pg_catalog.count(*) FROM u`},
		{"update of a part, remote", ApplyRemote, upd(accounts, "1", "x", "~"), 1, `WITH u AS (UPDATE "public"."accounts" AS t SET "na""me" = 'x' WHERE t."id" = '1'::bigint` + check},
		{"update, local", KeepLocal, upd(accounts, "1", "x", "∅"), 1, update},
		{"update, error", Error, upd(accounts, "1", "x", "∅"), 1, `WITH u AS (` + update + check},
		{"update of nothing", Error, upd(accounts, "1", "~", "~"), 0, ``},
		{"delete, remote", ApplyRemote, del(accounts, "1", "∅", "∅"), 1, `DELETE FROM "public"."accounts" AS t WHERE t."id" = '1'::bigint`},
		{"delete, error", Error, del(accounts, "1", "∅", "∅"), 1, `WITH u AS (DELETE FROM "public"."accounts" AS t WHERE t."id" = '1'::bigint` + check},
		{"upsert, local", KeepLocal, ups(accounts, "1", "x", "∅"), 0, head + `VALUES ('1', 'x', NULL)` + onConflict},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var s Script
			require.NoError(t, s.Change(&test.change, 3, 5, targets, &Options{Policy: test.policy}))
			require.Equal(t, test.want, s.String())
			for _, statement := range s.Statements() {
				require.Equal(t, Statement{Relation: test.change.Relation, Op: test.change.Op, Rows: 1, Tx: 5, Change: 3, Expected: test.expected}, statement)
			}
		})
	}
}

func TestNoKey(t *testing.T) {
	t.Parallel()
	c := upd(logs, "x")
	var s Script
	err := s.Change(&c, 0, 0, allTargets(t), &Options{})
	var noKey *NoKeyError
	require.ErrorAs(t, err, &noKey)
	require.Equal(t, "update a row of table public.logs: the table has no key", err.Error())
	require.NotEmpty(t, noKey.Hint())
}

func TestDrift(t *testing.T) {
	t.Parallel()
	generatedKey := &Table{Schema: "s", Name: "x", Columns: []Column{{Name: "id", Generated: true}, {Name: "na\"me"}, {Name: "tags"}}}
	missing := &Table{Schema: "s", Name: "x", Columns: []Column{{Name: "id"}, {Name: "tags"}}}
	for name, test := range map[string]struct {
		table        *Table
		column, hint string
	}{
		"table":         {nil, "", `Create table "public"."accounts" on the target, or remove it from the replication set.`},
		"column":        {missing, "na\"me", `On the target: ALTER TABLE "s"."x" ADD COLUMN "na""me" …;`},
		"generated key": {generatedKey, "id", "On the target make it an ordinary column, an identity one GENERATED BY DEFAULT, or leave it out of the replication set."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(accounts, test.table, nil)
			var drift *DriftError
			require.ErrorAs(t, err, &drift)
			require.Equal(t, test.column, drift.Column)
			require.Equal(t, test.hint, drift.Hint())
		})
	}
}

func TestFilterAndGenerated(t *testing.T) {
	t.Parallel()
	everything := Filter{Insert: true, Update: true, Delete: true, Truncate: true}
	filter := everything
	filter.Columns = map[string]bool{"tags": true}
	target := compile(t, accounts, accountsTable, &filter)
	s := set(t, targetMap{accounts: target}, Options{}, ins(accounts, "1", "x", "{}"), upd(accounts, "2", "x", "{}"), upd(accounts, "3", "x", "~"))
	require.Equal(t, `UPDATE "public"."accounts" AS t SET "tags" = '{}' WHERE t."id" = '2'::bigint;
INSERT INTO "public"."accounts" ("id", "tags") OVERRIDING SYSTEM VALUE VALUES ('1', '{}')`, s.String())

	generated := &Table{Schema: "public", Name: "pairs", Columns: []Column{{Name: "id", Type: "integer"}, {Name: "na\"me", Generated: true}, {Name: "tags", Type: "text"}}}
	target = compile(t, accounts, generated, nil)
	s = set(t, targetMap{accounts: target}, Options{}, ins(accounts, "1", "x", "y"))
	require.Equal(t, `INSERT INTO "public"."pairs" ("id", "tags") VALUES ('1', 'y')`, s.String())

	for _, op := range []change.Op{change.Insert, change.Update, change.Delete, change.Truncate} {
		only := Filter{Insert: op == change.Insert, Update: op == change.Update, Delete: op == change.Delete, Truncate: op == change.Truncate}
		target := compile(t, accounts, accountsTable, &only)
		s := set(t, targetMap{accounts: target}, Options{},
			change.Change{Op: change.Truncate, Truncated: []*change.Relation{accounts}},
			ins(accounts, "1", "x", "{}"), upd(accounts, "2", "x", "{}"), del(accounts, "3", "∅", "∅"))
		require.NotEmpty(t, s.Statements())
		for _, statement := range s.Statements() {
			require.Equal(t, op, statement.Op)
		}
	}
}

func TestIdentityAlwaysIsNotUpdated(t *testing.T) {
	t.Parallel()
	table := &Table{Schema: "public", Name: "accounts", Columns: []Column{
		{Name: "id", Type: "bigint"}, {Name: "na\"me", Type: "text"}, {Name: "tags", Type: "integer", Identity: 'a'}}}
	targets := targetMap{accounts: compile(t, accounts, table, nil)}
	const want = `UPDATE "public"."accounts" AS t SET "na""me" = 'x' WHERE t."id" = '1'::bigint`
	c := upd(accounts, "1", "x", "5")
	c.New[2].Same = true
	require.Equal(t, want, set(t, targets, Options{}, c).String())
	var s Script
	require.NoError(t, s.Change(&c, 0, 0, targets, &Options{Policy: KeepLocal}))
	require.Equal(t, want, s.String())

	// a value that was changed must not get lost
	changed := upd(accounts, "1", "x", "6")
	var drift *DriftError
	require.ErrorAs(t, s.Change(&changed, 0, 0, targets, &Options{Policy: KeepLocal}), &drift)
	require.Equal(t, "tags", drift.Column)
	f := batch.New()
	f.Add(&changed, 0)
	require.ErrorAs(t, s.Segment(&f.Segments()[0], targets, &Options{}), &drift)
}

// A key that is generated on both sides finds rows and is never written; one that
// is an ordinary column of the target is.
func TestGeneratedKey(t *testing.T) {
	t.Parallel()
	relation := &change.Relation{OID: 99, Schema: "public", Name: "g", Identity: 'd',
		Columns: []change.Column{{Name: "k", Key: true, Generated: true}, {Name: "a"}}}
	both := targetMap{relation: compile(t, relation, &Table{Schema: "public", Name: "g",
		Columns: []Column{{Name: "a", Type: "integer"}, {Name: "k", Type: "integer", Generated: true}}}, nil)}
	plain := targetMap{relation: compile(t, relation, &Table{Schema: "public", Name: "g",
		Columns: []Column{{Name: "a", Type: "integer"}, {Name: "k", Type: "integer"}}}, nil)}
	moved := mov(tuple("1", "∅"), upd(relation, "2", "7"))
	require.Equal(t, `INSERT INTO "public"."g" ("a") VALUES ('5')`, set(t, both, Options{}, ins(relation, "1", "5")).String())
	require.Equal(t, `INSERT INTO "public"."g" ("a") VALUES ('5') ON CONFLICT ("k") DO UPDATE SET "a" = EXCLUDED."a"`,
		set(t, both, Options{}, ups(relation, "1", "5")).String())
	require.Equal(t, `UPDATE "public"."g" AS t SET "a" = '7' WHERE t."k" = '1'::integer`, set(t, both, Options{}, moved).String())
	require.Equal(t, `DELETE FROM "public"."g" AS t WHERE t."k" = '1'::integer`, set(t, both, Options{}, del(relation, "1", "∅")).String())
	require.Equal(t, `INSERT INTO "public"."g" ("k", "a") VALUES ('1', '5')`, set(t, plain, Options{}, ins(relation, "1", "5")).String())
	require.Equal(t, `UPDATE "public"."g" AS t SET "k" = '2', "a" = '7' WHERE t."k" = '1'::integer`, set(t, plain, Options{}, moved).String())
}

// What an update left as it was belongs to the node, row by row as in a batch;
// an update that changed nothing still has to find its row.
func TestRowByRowLeavesTheSameAlone(t *testing.T) {
	t.Parallel()
	targets := allTargets(t)
	some, none := upd(accounts, "1", "x", "{a}"), upd(accounts, "1", "x", "{a}")
	some.New[2].Same = true
	none.New[1].Same, none.New[2].Same = true, true
	for want, c := range map[string]change.Change{
		`SET "na""me" = 'x' WHERE`:                 some,
		`SET "na""me" = 'x', "tags" = '{a}' WHERE`: none,
	} {
		var s Script
		require.NoError(t, s.Change(&c, 0, 0, targets, &Options{Policy: Error}))
		require.Contains(t, s.String(), want)
	}
}
