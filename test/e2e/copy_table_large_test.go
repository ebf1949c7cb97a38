package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// largeCopy is a copy of rows of 50 MB by courier.copy_table().
type largeCopy struct {
	direction string
	from, to  *pgtest.Cluster
}

// fill makes rows that go in slices, and such that do not: out of line with and
// without compression, with a key and without.
func (c *largeCopy) fill(r *replica, megabytes int) {
	r.t.Helper()
	const tables = `CREATE TABLE %[1]s_large (id int PRIMARY KEY, "t'" text NOT NULL, b bytea, j jsonb, n numeric(10,2));
		ALTER TABLE %[1]s_large ALTER "t'" SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
		CREATE TABLE %[1]s_packed (id int, t text, b bytea);
		CREATE TABLE %[1]s_loose (t text, b bytea)`
	length := megabytes * 1000 * 1000
	c.from.Exec(r.t, appDatabase, fmt.Sprintf(tables, c.direction))
	if c.direction == "push" {
		c.to.Exec(r.t, appDatabase, fmt.Sprintf(tables, c.direction))
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(r.t, c.from.Run(ctx, appDatabase, fmt.Sprintf(`
		INSERT INTO %[1]s_large VALUES (1, 'small', '\x00', '{}', 1), (2, repeat('ä€ "''\x', %[2]d), NULL, NULL, 2.50), (3, 'small', NULL, '[]', 3);
		INSERT INTO %[1]s_large SELECT 4, repeat('x', %[3]d), convert_to(repeat('y', %[3]d), 'UTF8'), NULL, NULL;
		INSERT INTO %[1]s_large SELECT 5, '', '', jsonb_agg(md5(i::text)), 5 FROM generate_series(1, %[4]d) i;
		INSERT INTO %[1]s_packed VALUES (1, 'small', NULL), (1, repeat('z', 6000000), '\x01');
		INSERT INTO %[1]s_packed SELECT 2, repeat(string_agg(m || m, ''), %[5]d), NULL FROM (SELECT md5(i::text) AS m FROM generate_series(1, 250) i) s;
		INSERT INTO %[1]s_loose SELECT 'small', CASE WHEN i > 500 THEN '\x02' ELSE '\x03' END::bytea FROM generate_series(1, 1000) i;
		INSERT INTO %[1]s_loose SELECT repeat('x', 500), convert_to(repeat('y', %[2]d), 'UTF8');
		INSERT INTO %[1]s_loose VALUES (repeat('z', 5000000), NULL), ('small', '\x02'), (NULL, NULL);
		DELETE FROM %[1]s_loose WHERE b = '\x02' AND ctid < (SELECT ctid FROM %[1]s_loose WHERE length(b) > 10)`,
		c.direction, length/11, length/2, length/300, length/16000)))
}

// The copies: source, target, options, and what is the same on both sides behind
// them. A query without a key is pulled only.
func (c *largeCopy) copies() [][4]string {
	const large = `SELECT string_agg(concat_ws(' ', id, octet_length("t'"), md5("t'"), octet_length(b), md5(b), md5(j::text), n), ',' ORDER BY id) FROM %s`
	const loose = "SELECT string_agg(s, ',' ORDER BY s COLLATE \"C\") FROM (SELECT concat_ws(' ', md5(t), octet_length(b), md5(b), count(*)) AS s FROM %s GROUP BY t, b) l"
	copies := [][4]string{
		{c.direction + "_large", c.direction + "_large", `{}`, large},
		{c.direction + "_packed", c.direction + "_packed", `{"key": "id"}`, loose},
		{c.direction + "_loose", c.direction + "_loose", `{"chunk_bytes": 8192}`, loose},
	}
	if c.direction == "pull" {
		copies = append(copies, [4]string{"(SELECT * FROM pull_loose)", "pull_whole", `{}`, loose})
	}
	return copies
}

// call is the call that makes one of the copies.
func (c *largeCopy) call(k [4]string) string {
	return fmt.Sprintf("SELECT courier.copy_table('%s', '%s', '%s', jsonb_build_object('direction', '%s') || '%s')",
		targetNode, k[0], k[1], c.direction, k[2])
}

// cutShort begins the first of the copies and ends its worker while a row is there
// in pieces: of which nothing is left.
func (c *largeCopy) cutShort(r *replica) {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.source.Run(r.t.Context(), appDatabase, c.call(c.copies()[0])) }()
	r.target.Eventually(r.t, appDatabase, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%courier_piece%' AND pid <> pg_backend_pid()", "1", patience)
	r.onSource("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_courier copy worker'")
	require.ErrorContains(r.t, <-done, "the worker that copied the table was terminated")
	copied := c.to.Value(r.t, appDatabase, fmt.Sprintf("SELECT count(*) FROM %s_large", c.direction))
	require.Contains(r.t, []string{"1", "2", "3"}, copied, "rows behind an interruption")
}

// Rows of 50 MB are pushed and pulled, and no process takes more than 200 MB for
// it, here or on the node; and so much less for smaller ones. A copy that is cut short
// among the pieces of one goes on with that row.
func TestCopyTableLargeRows(t *testing.T) {
	megabytes := numberOf(t, "COURIER_TEST_COPY_MB", 25)
	most := 40*1024 + (mostMemory-40*1024)*megabytes/50
	r := startReplica(t)
	for _, c := range []*largeCopy{{"pull", r.target, r.source}, {"push", r.source, r.target}} {
		c.fill(r, megabytes)
		c.cutShort(r)
		watch := r.watchMemory("SELECT 0")
		began := time.Now()
		for _, k := range c.copies() {
			r.runLong(c.call(k), 3*time.Minute)
		}
		took := time.Since(began)
		watch.stop()
		require.NoError(t, watch.err)
		highest := 0
		for process, kB := range watch.peaks {
			assert.Less(t, kB, most, "%s: private memory of %s", c.direction, process)
			highest = max(highest, kB)
		}
		for _, k := range c.copies() {
			source := k[0]
			if source[0] == '(' {
				source += " AS q"
			}
			require.Equal(t, c.from.Value(t, appDatabase, fmt.Sprintf(k[3], source)), c.to.Value(t, appDatabase, fmt.Sprintf(k[3], k[1])), k[0])
		}
		t.Logf("%s of rows of %d MB in %s; most private memory of a process: %d kB", c.direction, megabytes, took, highest)
	}
}
