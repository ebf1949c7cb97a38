package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Rows of a table that courier.copy_table() copies, and of a chunk of it: enough
// chunks to be cut short among them again and again.
const (
	stockRows  = 24000
	stockChunk = 100
)

// stock is a table that is copied from one side to the table of the same name on
// the other.
type stock struct {
	*replica
	direction string // push or pull
	table     string
}

// fillStock makes the table on the side that is read; of a push also the other.
func (r *replica) fillStock(direction, table, key string) *stock {
	r.t.Helper()
	create := fmt.Sprintf("CREATE TABLE %s (id int %s, name text, at timestamptz, data bytea)", table, key)
	fill := fmt.Sprintf("INSERT INTO %s SELECT i, 'row ' || i, now(), decode(md5(i::text), 'hex') FROM generate_series(1, %d) i", table, stockRows)
	if direction == "push" {
		r.onBoth(create)
		r.onSource(fill)
	} else {
		r.onTarget(create)
		r.onTarget(fill)
	}
	return &stock{replica: r, direction: direction, table: table}
}

// call is a session that copies.
type call struct {
	pid  uint32
	done chan error
	rows int64
}

func (s *stock) call() *call {
	s.t.Helper()
	ctx := context.Background()
	conn, err := s.source.Open(ctx, appDatabase)
	require.NoError(s.t, err)
	c := &call{pid: conn.PgConn().PID(), done: make(chan error, 1)}
	go func() {
		defer conn.Close(ctx)
		c.done <- conn.QueryRow(ctx, "SELECT courier.copy_table($1, $2, $2, jsonb_build_object('direction', $3::text, 'chunk_rows', $4::int, 'chunk_bytes', 100000))",
			targetNode, s.table, s.direction, stockChunk).Scan(&c.rows)
	}()
	return c
}

// progress is how many rows are known to be copied, and whether all are.
func (s *stock) progress() (rows int, finished bool) {
	s.t.Helper()
	found := s.source.Query(s.t, appDatabase, fmt.Sprintf(
		"SELECT rows, state = 'finished' FROM courier.copy_table_status WHERE target = 'public.%s'", s.table))
	if len(found) == 0 {
		return 0, false
	}
	rows, err := strconv.Atoi(found[0][0])
	require.NoError(s.t, err)
	return rows, found[0][1] == "t"
}

// copied counts the rows that are there.
func (s *stock) copied() int {
	s.t.Helper()
	side := s.source
	if s.direction == "push" {
		side = s.target
	}
	if side.Value(s.t, appDatabase, fmt.Sprintf("SELECT to_regclass('%s') IS NULL", s.table)) == "t" {
		return 0
	}
	rows, err := strconv.Atoi(side.Value(s.t, appDatabase, "SELECT count(*) FROM "+s.table))
	require.NoError(s.t, err)
	return rows
}

// cutShort calls, and interrupts the call when it has come farther than before.
func (s *stock) cutShort(name string, interrupt func(c *call)) {
	s.t.Helper()
	before, _ := s.progress()
	there := s.copied()
	c := s.call()
	eventually(s.t, "the copy to go on before "+name, func() bool {
		rows, finished := s.progress()
		require.False(s.t, finished, "the copy was over before %s", name)
		return rows >= max(before, there)+2*stockChunk
	})
	interrupt(c)
	require.Error(s.t, <-c.done, name)
	eventually(s.t, "the server to be there after "+name, func() bool {
		return s.source.Run(s.t.Context(), appDatabase, "SELECT 1") == nil
	})
	s.source.Eventually(s.t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_courier copy worker'", "0", patience)
	after, _ := s.progress()
	now := s.copied()
	s.t.Logf("%s %s: %d rows before, %d after", s.direction, name, there, now)
	// A crash may take back what the worker has committed in the last second.
	require.GreaterOrEqual(s.t, now, there, name)
	if !strings.Contains(name, "kill") {
		require.Greater(s.t, now, there, name)
	}
	if s.direction == "pull" { // of a push the node knows: what is written down here may be behind or ahead of a crash
		require.Equal(s.t, after, now, name)
	}
}

// finish calls until all is copied: each row once, and no chunk anew.
func (s *stock) finish() {
	s.t.Helper()
	c := s.call()
	require.NoError(s.t, <-c.done)
	require.EqualValues(s.t, stockRows, c.rows)
	require.Equal(s.t, stockRows, s.copied())
	s.requireEqual(s.table)
	require.Equal(s.t, "0", s.targetValue("SELECT count(*) FROM pg_namespace WHERE nspname = 'courier_target'"))
}

func (s *stock) cancel(c *call)    { s.onSource("SELECT pg_cancel_backend($1::int)", int(c.pid)) }
func (s *stock) terminate(c *call) { s.onSource("SELECT pg_terminate_backend($1::int)", int(c.pid)) }

// callTwice calls while another call is under way, which goes on.
func (s *stock) callTwice() {
	s.t.Helper()
	first := s.call()
	s.source.Eventually(s.t, appDatabase, "SELECT count(*) FROM courier.copy_table_status WHERE state = 'copying'", "1", patience)
	for sql, message := range map[string]string{
		"SELECT courier.forget_copies('eu')": "public.twice is being copied into",
		"SELECT courier.drop_node('eu')":     `node "eu" is in use by copies under way`,
	} {
		refused := requireState(s.t, "55006", s.source.Run(s.t.Context(), appDatabase, sql))
		require.Equal(s.t, message, refused.Message)
		require.Contains(s.t, refused.Hint, "or cancel")
	}
	holder := s.source.Connect(s.t, appDatabase)
	_, err := holder.Exec(s.t.Context(), "BEGIN; SELECT copy_id FROM courier.table_copy FOR UPDATE")
	require.NoError(s.t, err) // the first waits, however long the second takes
	second := s.call()
	require.ErrorContains(s.t, <-second.done, "is being copied into already")
	_, err = holder.Exec(s.t.Context(), "COMMIT")
	require.NoError(s.t, err)
	require.NoError(s.t, <-first.done)
}

func (s *stock) terminateWorker(*call) {
	s.onSource("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_courier copy worker'")
}

// killWorker kills the worker with SIGKILL, after which the server restarts.
func (s *stock) killWorker(*call) {
	s.t.Helper()
	require.NoError(s.t, syscall.Kill(s.worker("copy worker").pid, syscall.SIGKILL))
}

// killNode kills the node's server and starts it again.
func (s *stock) killNode(*call) {
	s.t.Helper()
	require.NoError(s.t, s.target.Kill9())
	require.NoError(s.t, s.target.Start(s.t.Context()))
}

// However a call of courier.copy_table() ends, the next one goes on behind the
// last chunk, in both directions.
func TestCopyTableGoesOn(t *testing.T) {
	r := startReplica(t)
	for _, direction := range []string{"pull", "push"} {
		s := r.fillStock(direction, "stock_"+direction, "PRIMARY KEY")
		s.cutShort("a cancel", s.cancel)
		s.cutShort("the end of the session", s.terminate)
		s.cutShort("the end of the worker", s.terminateWorker)
		s.cutShort("kill -9 of the worker", s.killWorker)
		s.cutShort("kill -9 of the node", s.killNode)
		s.finish()
		require.Equal(t, strconv.Itoa(stockRows/stockChunk), r.sourceValue(fmt.Sprintf(
			"SELECT chunks FROM courier.copy_table_status WHERE target = 'public.%s'", s.table)), "a chunk was copied anew")
	}
}

// A client that is killed cannot cancel; the copy ends with it all the same. And
// one call at a time copies into a table.
func TestCopyTableCallers(t *testing.T) {
	r := startReplica(t)
	s := r.fillStock("pull", "stock", "PRIMARY KEY")
	client := r.source.Psql(t.Context(), appDatabase, "-c",
		`SELECT courier.copy_table('eu', 'stock', 'stock', '{"direction": "pull", "chunk_rows": 1}')`)
	require.NoError(t, client.Start())
	r.source.Eventually(t, appDatabase, "SELECT count(*) FROM courier.copy_table_status WHERE rows > 10", "1", patience)
	require.NoError(t, client.Process.Kill())
	require.Error(t, client.Wait())
	r.source.Eventually(t, appDatabase, "SELECT state FROM courier.copy_table_status", "interrupted", patience)
	rows, _ := s.progress()
	require.Less(t, rows, stockRows)
	s.finish()

	twice := r.fillStock("pull", "twice", "PRIMARY KEY")
	twice.callTwice()
	twice.requireEqual("twice")
}

// The same for tables without a key, which are gone through by place.
func TestCopyTableByPlaceGoesOn(t *testing.T) {
	r := startReplica(t, pgtest.Preload(true), pgtest.Setting("autovacuum", "off"))
	for _, direction := range []string{"pull", "push"} {
		s := r.fillStock(direction, "stock_"+direction, "")
		s.cutShort("a cancel", s.cancel)
		s.cutShort("kill -9 of the worker", s.killWorker)
		s.finish()
	}
}

// A table that is written to all the while: by key, each row that is there from
// beginning to end arrives once; without a key, all of it is of one moment.
func TestCopyTableUnderWrites(t *testing.T) {
	r := startReplica(t)
	for _, direction := range []string{"pull", "push"} {
		read, written := r.target, r.source
		if direction == "push" {
			read, written = r.source, r.target
		}
		keyed := r.fillStock(direction, "keyed_"+direction, "PRIMARY KEY")
		loose := r.fillStock(direction, "loose_"+direction, "")
		stop := writeStock(t, read, keyed.table, loose.table)
		for _, s := range []*stock{keyed, loose} {
			c := s.call()
			require.NoError(t, <-c.done)
		}
		require.Positive(t, stop(), "there were no writes")
		require.Equal(t, [][]string{{strconv.Itoa(stockRows), strconv.Itoa(stockRows)}}, written.Query(t, appDatabase, fmt.Sprintf(
			"SELECT count(*), count(DISTINCT id) FROM %s WHERE id BETWEEN 1 AND %d", keyed.table, stockRows)), direction)
		require.Equal(t, "0", written.Value(t, appDatabase, "SELECT count(*) FROM "+keyed.table+" GROUP BY id HAVING count(*) > 1 UNION ALL SELECT 0 LIMIT 1"), direction)
		// each write takes one row away and adds one
		require.Equal(t, [][]string{{strconv.Itoa(stockRows), "0"}}, written.Query(t, appDatabase,
			"SELECT count(*), count(*) - count(DISTINCT id) FROM "+loose.table), direction)
	}
}

// writeStock moves rows about, as fast as it goes, until the returned function is
// called, which says how often it did.
func writeStock(t *testing.T, side *pgtest.Cluster, keyed, loose string) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := side.Open(ctx, appDatabase)
	require.NoError(t, err)
	done := make(chan int, 1)
	go func() {
		defer conn.Close(context.Background())
		random := randomSource(1, 0)
		writes := 0
		defer func() { done <- writes }()
		for ; ctx.Err() == nil; writes++ {
			id := random.IntN(stockRows) + 1
			_, err := conn.Exec(ctx, fmt.Sprintf(`UPDATE %[1]s SET name = name || 'x' WHERE id %% 997 = %[3]d;
				INSERT INTO %[1]s VALUES (%[4]d, 'new'); DELETE FROM %[1]s WHERE id = %[5]d;
				WITH gone AS (DELETE FROM %[2]s WHERE ctid = (SELECT min(ctid) FROM %[2]s) RETURNING *)
				INSERT INTO %[2]s SELECT %[4]d, 'moved', at, data FROM gone`,
				keyed, loose, id%997, stockRows+2*writes+100, stockRows+2*writes+40), pgx.QueryExecModeSimpleProtocol)
			if err != nil && ctx.Err() == nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	}()
	return func() int {
		cancel()
		return <-done
	}
}
