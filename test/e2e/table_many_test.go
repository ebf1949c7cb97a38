package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// manyTables is COURIER_TEST_TABLES, or a number that is soon made.
func manyTables(t *testing.T) int { return numberOf(t, "COURIER_TEST_TABLES", 400) }

// A set of very many tables: added at once, copied, and written to all in one
// transaction. Triggers on all of them need a lock each.
func TestManyTables(t *testing.T) {
	n := manyTables(t)
	r := startReplica(t, pgtest.Setting("max_locks_per_transaction", strconv.Itoa(64+n/20)))
	for _, c := range []*pgtest.Cluster{r.source, r.target} {
		for from := 1; from <= n; from += 1000 {
			c.Exec(t, appDatabase, fmt.Sprintf(`DO $$ BEGIN FOR i IN %d .. %d LOOP
				EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$`, from, min(n, from+999)))
		}
	}
	each := func(statement string) string {
		return fmt.Sprintf("DO $$ BEGIN FOR i IN 1 .. %d LOOP EXECUTE format('%s', i); END LOOP; END $$", n, statement)
	}
	patient := 30*time.Second + time.Duration(n)*20*time.Millisecond
	r.runLong(each("INSERT INTO t%1$s VALUES (1, ''copied'')"), patient)
	r.runLong("SELECT courier.replication_set_add_all_tables('default', '{public}')", patient)
	r.subscribe("{default}", true)
	r.runLong("SELECT courier.ship('"+subscription+"')", patient)
	r.runLong(each("INSERT INTO t%1$s VALUES (2, ''new''), (3, ''gone'')"), patient)
	r.runLong(each("UPDATE t%1$s SET v = v || %1$s WHERE id < 3; DELETE FROM t%1$s WHERE id = 3"), patient)
	r.runLong("SELECT courier.ship('"+subscription+"')", patient)
	const sum = `SELECT count(*) || ' ' || md5(string_agg(x::text, ',' ORDER BY relname)) FROM (SELECT relname,
		query_to_xml(format('SELECT * FROM %I ORDER BY id', relname), false, true, '') AS x FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^t[0-9]+$') t`
	require.Equal(t, r.sourceValue(sum), r.targetValue(sum))
	require.Equal(t, fmt.Sprintf("copied%d,new%[1]d", n), r.targetValue(fmt.Sprintf("SELECT string_agg(v, ',' ORDER BY id) FROM t%d", n)))
}
