package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	filterRounds       = 6
	filterSessions     = 3
	filterTransactions = 60 // a session and round
	secondDatabase     = "second"
	secondSubscription = "to_second"
)

// filterTables are alike but for what identifies a row. Partition part_b has its
// columns in another order.
const filterTables = `
	CREATE TABLE keyed (id int PRIMARY KEY, v int, grp int, note text, big text);
	CREATE TABLE parted (id int, v int, grp int NOT NULL, note text, big text, PRIMARY KEY (id, grp)) PARTITION BY LIST (grp);
	CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN (0, 1);
	CREATE TABLE parted_b (gone int, big text, note text, grp int NOT NULL, v int, id int NOT NULL);
	ALTER TABLE parted_b DROP COLUMN gone;
	ALTER TABLE parted ATTACH PARTITION parted_b FOR VALUES IN (2, 3);
	CREATE TABLE whole (id int, v int, grp int, note text, big text);
	ALTER TABLE whole REPLICA IDENTITY FULL;
	ALTER TABLE keyed ALTER big SET STORAGE EXTERNAL;
	ALTER TABLE parted_a ALTER big SET STORAGE EXTERNAL;
	ALTER TABLE parted_b ALTER big SET STORAGE EXTERNAL;
	ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;`

var filterNames = []string{"keyed", "parted", "whole"}

// FAULTS: unchanged TOAST on update, primary key change, partition move. Random
// rows move in and out of row filters. Two subscriptions filter the same tables
// differently, the first by two sets that overlap; at every quiet point a target
// has what SELECT ... WHERE filter gives on the source. Filters are added while
// sessions write.
func TestRowFilterProperty(t *testing.T) {
	seed := randomSeed(t)
	f := startFiltered(t)
	f.subscribeTo(secondSubscription, "us", "{grouped,late}")
	f.onSource("SELECT courier.replication_set_add_table('low', 'keyed', row_filter => 'v <= 20')")
	f.subscribeTo(subscription, targetNode, "{high,low}")

	// The filters as a WHERE clause of each subscription.
	first := map[string]string{"keyed": "v > 50 OR v <= 20", "parted": "v > 50", "whole": "v > 50"}
	second := map[string]string{}
	for _, table := range filterNames {
		second[table] = "grp IN (1, 2) AND note IS NOT NULL"
	}
	for round := range filterRounds {
		// in the last one no TRUNCATE, which might leave nothing to compare
		done := f.write(seed, uint64(round), round < filterRounds-1)
		switch round {
		case 2: // more rows of a table that has been copied
			f.widen("late", "keyed", "v = 33 OR note LIKE 'x%'")
			second["keyed"] = "(" + second["keyed"] + ") OR v = 33 OR note LIKE 'x%'"
		case 4: // with a filter that is there already
			f.widen("late", "parted", "v > 50")
			second["parted"] = "(" + second["parted"] + ") OR v > 50"
		}
		done()
		f.onSource("SELECT courier.ship($1), courier.ship($2)", subscription, secondSubscription)
		for _, table := range filterNames {
			f.requireRows(appDatabase, table, "id, v, grp, note, big", first[table])
			columns := "id, grp, big"
			if table == "whole" {
				columns = "id, v, grp, note, big"
			}
			f.requireRows(secondDatabase, table, columns, second[table])
		}
	}
	for _, table := range filterNames {
		for _, database := range []string{appDatabase, secondDatabase} {
			require.NotEqual(t, "0", f.target.Value(t, database, "SELECT count(*) FROM "+table), "%s in %s", table, database)
		}
	}
}

// The filters come back with a dump, as triggers and as configuration.
func TestRowFilterDumpRestore(t *testing.T) {
	f := startFiltered(t)
	f.onSource("ALTER TABLE keyed RENAME v TO w")
	f.source.Database(t, "restored")
	programs, err := pgtest.FindInstallation()
	require.NoError(t, err)
	dump, err := exec.Command(programs.Program("pg_dump"), f.source.DSN(appDatabase)).Output()
	require.NoError(t, err)
	load := exec.Command(programs.Program("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", f.source.DSN("restored"))
	load.Stdin = bytes.NewReader(dump)
	output, err := load.CombinedOutput()
	require.NoError(t, err, string(output))

	const filters = `SELECT string_agg(format('%s %s %s %s', t.set_name, t.relation, t.row_filter,
			courier.row_filter_expression(t.relation, t.filter_id)), E'\n' ORDER BY t.set_name, t.relation::text)
		FROM courier.replication_set_table t`
	require.Equal(t, f.sourceValue(filters), f.source.Value(t, "restored", filters))
	require.Contains(t, f.sourceValue(filters), "high keyed (w > 50) (w > 50)")
	f.source.Exec(t, "restored", "SELECT courier.replication_set_add_table('low', 'keyed', row_filter => 'w <= 20')")
	require.Equal(t, "2", f.source.Value(t, "restored", `SELECT count(DISTINCT filter_id) FROM courier.replication_set_table
		WHERE set_name IN ('high', 'low') AND relation = 'keyed'::regclass`))
}

// filtered is a source with a second target database, and filtered sets.
type filtered struct{ *replica }

func startFiltered(t *testing.T) filtered {
	f := filtered{startReplica(t, pgtest.Setting("log_min_messages", "fatal"))}
	f.target.Database(t, secondDatabase)
	f.onBoth(filterTables)
	f.target.Exec(t, secondDatabase, filterTables)
	f.onSource("SELECT courier.create_node('us', dsn => $1)", f.target.DSN(secondDatabase))
	for _, set := range []string{"high", "low", "grouped", "late"} {
		f.onSource("SELECT courier.create_replication_set($1)", set)
	}
	for _, table := range filterNames {
		f.onSource("SELECT courier.replication_set_add_table('high', $1::text, row_filter => 'v > 50')", table)
		columns := "{id,grp,big}" // the filter uses one more
		if table == "whole" {
			columns = "{id,v,grp,note,big}"
		}
		f.onSource(`SELECT courier.replication_set_add_table('grouped', $1::text, $2::text[], 'grp IN (1, 2) AND note IS NOT NULL')`,
			table, columns)
	}
	return f
}

// subscribeTo copies rows that are there already.
func (f filtered) subscribeTo(name, node, sets string) {
	f.t.Helper()
	for _, table := range filterNames {
		f.onSource(fmt.Sprintf(`INSERT INTO %s SELECT n, n %% 100, n %% 4, nullif('n' || n %% 3, 'n0'), repeat('y', 3000)
			FROM generate_series(900, 960) n ON CONFLICT DO NOTHING`, table))
	}
	// an update of a missing row, or an insert of one that is there, is an error
	f.onSource(`SELECT courier.create_subscription($1, $2, $3::text[], options => '{"on_conflict": "error"}')`, name, node, sets)
}

// widen adds a table that the subscription has to another of its sets, and sends
// the rows that this lets in, in the way that docs/filters.md tells.
func (f filtered) widen(set, table, filter string) {
	f.t.Helper()
	f.onSource(fmt.Sprintf(`BEGIN; LOCK TABLE %[2]s IN SHARE ROW EXCLUSIVE MODE;
		SELECT courier.replication_set_add_table('%[1]s', '%[2]s', '{id,grp,big}', '%[3]s');
		SELECT courier.enqueue_upsert('%[2]s', t) FROM %[2]s t WHERE %[4]s;
		COMMIT`, set, table, strings.ReplaceAll(filter, "'", "''"), filter))
}

// requireRows compares the rows that a filter lets in with those of a target.
func (f filtered) requireRows(database, table, columns, filter string) {
	f.t.Helper()
	rows := func(c *pgtest.Cluster, database, where string) string {
		return c.Value(f.t, database, fmt.Sprintf(`SELECT coalesce(string_agg(r, E'\n' ORDER BY r COLLATE "C"), '') FROM
			(SELECT ROW(t.*)::text FROM (SELECT %s FROM %s %s) t) AS x (r)`, strings.Replace(columns, "big", "md5(big)", 1), table, where))
	}
	want, got := rows(f.source, appDatabase, "WHERE "+filter), rows(f.target, database, "")
	if want != got {
		difference(f.t, table+" in "+database, want, got)
	}
}

// difference shows the first lines that only one side has.
func difference(t *testing.T, what, want, got string) {
	t.Helper()
	count := make(map[string]int)
	for line := range strings.Lines(want + "\n") {
		count[line]++
	}
	for line := range strings.Lines(got + "\n") {
		count[line]--
	}
	shown := 0
	for line, n := range count {
		if n != 0 && shown < shownRows {
			shown++
			t.Errorf("%s: %+d on the source: %s", what, n, shorten(line))
		}
	}
	t.Fatalf("%s differs from the source", what)
}

// write lets sessions run random transactions; the function waits for them.
func (f filtered) write(seed, round uint64, truncating bool) (done func()) {
	f.t.Helper()
	var sessions sync.WaitGroup
	failures := make(chan error, filterSessions)
	for i := range uint64(filterSessions) {
		sessions.Go(func() {
			if err := f.session(randomSource(seed, round*filterSessions+i), truncating); err != nil {
				failures <- err
			}
		})
	}
	return func() {
		f.t.Helper()
		sessions.Wait()
		close(failures)
		for err := range failures {
			require.NoError(f.t, err)
		}
	}
}

func (f filtered) session(random *rand.Rand, truncating bool) error {
	ctx := context.Background()
	conn, err := f.source.Open(ctx, appDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for range filterTransactions {
		var sql []string
		for range 1 + random.IntN(6) {
			sql = append(sql, filterStatement(random, truncating))
		}
		isolation := []string{"READ COMMITTED", "REPEATABLE READ"}[random.IntN(2)]
		if random.IntN(5) == 0 { // what follows the savepoint is taken back
			sql = append(sql, "SAVEPOINT s", filterStatement(random, truncating), "ROLLBACK TO s")
		}
		_, err = conn.Exec(ctx, "BEGIN ISOLATION LEVEL "+isolation+";"+strings.Join(sql, ";")+"; COMMIT", pgx.QueryExecModeSimpleProtocol)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && (passes(err) || refused.Code == "23505") {
			_, err = conn.Exec(ctx, "ROLLBACK")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// filterStatement changes a few rows of a table, or truncates it.
func filterStatement(random *rand.Rand, truncating bool) string {
	table := filterNames[random.IntN(len(filterNames))]
	id, v, grp := random.IntN(120), random.IntN(100), random.IntN(4)
	value := func(text string) string {
		if random.IntN(6) == 0 {
			return "NULL"
		}
		return text
	}
	note := value(fmt.Sprintf("'%c%d'", "nxz"[random.IntN(3)], random.IntN(9)))
	where := fmt.Sprintf("id = %d", id)
	if random.IntN(4) == 0 {
		where = fmt.Sprintf("id %% 17 = %d", id%17)
	}
	switch random.IntN(12) {
	case 0, 1, 2:
		conflict := "ON CONFLICT DO NOTHING"
		if table != "whole" && random.IntN(2) == 0 {
			key := map[string]string{"keyed": "id", "parted": "id, grp"}[table]
			conflict = "ON CONFLICT (" + key + ") DO UPDATE SET v = excluded.v, note = excluded.note"
		}
		return fmt.Sprintf("INSERT INTO %s VALUES (%d, %s, %d, %s, repeat('%d', %d)) %s",
			table, id, value(fmt.Sprint(v)), grp, note, v, 10+random.IntN(2)*3000, conflict)
	case 3, 4:
		return fmt.Sprintf("UPDATE %s SET v = %s WHERE %s", table, value(fmt.Sprint(v)), where)
	case 5:
		return fmt.Sprintf("UPDATE %s SET v = 100 - v WHERE %s", table, where)
	case 6:
		return fmt.Sprintf("UPDATE %s SET note = %s WHERE %s", table, note, where)
	case 7:
		return fmt.Sprintf("UPDATE %s SET grp = %d WHERE id = %d", table, grp, id)
	case 8: // the key changes, perhaps together with a move
		return fmt.Sprintf("UPDATE %s SET id = id + 1000 * (1 - 2 * (id / 1000)), v = %s, note = %s WHERE id %% 1000 = %d",
			table, []string{"v", fmt.Sprint(v)}[random.IntN(2)], note, id)
	case 9:
		return fmt.Sprintf("UPDATE %s SET big = repeat('%d', 3000) WHERE id = %d", table, v, id)
	case 10:
		return fmt.Sprintf("DELETE FROM %s WHERE %s", table, where)
	}
	if random.IntN(40) == 0 && truncating {
		return "TRUNCATE " + table
	}
	return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
}
