package ship_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Values of every type that a copy sends in binary arrive as they are, the odd ones
// too; and in a table where one column's type is another on the node, all as text.
func TestCopyOfEveryBinaryType(t *testing.T) {
	t.Parallel()
	s := startSlowSource(t)
	const columns = `id int PRIMARY KEY, a bool, b bytea, c bigint, d smallint, e text, f json, g cidr, h real, i double precision,
		j macaddr, k inet, l char(5), m varchar(9), n date, o time(3), p timestamp, q timestamptz, r interval, s timetz, t numeric,
		u numeric(9,2), v uuid, w jsonb, x "char"[]`
	alike := strings.Replace(columns, `, x "char"[]`, "", 1)
	s.both(`CREATE TABLE alike (` + alike + `)`)
	s.source(`CREATE TABLE differs (` + alike + `)`)
	s.target(`CREATE TABLE differs (` + strings.Replace(alike, "d smallint", "d int", 1) + `)`)
	s.both(`CREATE TABLE other (` + columns + `)`)
	for _, table := range []string{"alike", "differs", "other"} {
		for _, values := range []string{
			`(1, true, '\x00ff5c0a', 9223372036854775807, -32768, E'tab\there \\ "ü"\n', '{"a" : 1.00}', '10.0.0.0/8', 'NaN', '-Infinity',
			 '08:00:2b:01:02:03', 'fe80::1/64', 'ab', 'ü', 'infinity', '24:00', '-infinity', '0044-03-15 12:00:00.000001+01 BC',
			 '-1 year 2 mons -3 days 04:05:06.000007', '23:59:60+15:59', 'NaN', 1.5, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
			 '{"b": [1, null, "\u00fc"], "a": 1.00}')`,
			`(2, false, '', -9223372036854775808, 0, '', '[]', '::/0', '-0', '1e-307', 'ff:ff:ff:ff:ff:ff', '0.0.0.0', '', '', '4713-11-24 BC',
			 '00:00:00.001', '294276-12-31 23:59:59.999999', 'infinity', '178000000 years', '00:00-15:59',
			 -1234567890123456789012345678901234567890.00000000000000000001, -9999999.99, '00000000-0000-0000-0000-000000000000', 'null')`,
			`(3)`,
			`(4, true, repeat('x', 9000)::bytea, 1, 1, repeat('long ', 90000), '1', '10.1.2.3', 3.4028235e38, 0.1::float8 + 0.2,
			 '00:00:00:00:00:00', '1.2.3.4', 'abcde', '123456789', '2024-02-29', '00:00', '2026-01-01', '1999-12-31 23:59:59.9+00',
			 '1 us', '12:00+00', 1e1000, 0, gen_random_uuid(), to_jsonb(repeat('long ', 90000)))`,
		} {
			s.source("INSERT INTO " + table + " VALUES " + values)
		}
		s.source("SELECT courier.replication_set_add_table('default', $1)", table)
	}
	s.source("UPDATE other SET x = '{a,b}'")
	s.source(`SELECT courier.create_subscription('s', 'eu')`)
	log, err := s.drain("")
	require.NoError(t, err, log)
	for _, table := range []string{"alike", "differs", "other"} {
		rows := "SELECT string_agg(md5(t::text), ' ' ORDER BY id) FROM " + table + " t"
		require.Equal(t, s.cluster.Value(t, "source", rows), s.cluster.Value(t, "target", rows), table)
		sizes := "SELECT string_agg(concat(pg_column_size(e), ' ', pg_column_size(t), ' ', scale(t)), ', ' ORDER BY id) FROM " + table
		require.Equal(t, s.cluster.Value(t, "source", sizes), s.cluster.Value(t, "target", sizes), table)
	}
}

// A column of the node that gets another type before its rows come has the values it
// would have got from text, though the rows were sent in binary for the type of before.
func TestCopyTypeAlteredOnNode(t *testing.T) {
	t.Parallel()
	s := startSlowSource(t)
	s.both("CREATE TABLE item (id int PRIMARY KEY, n bigint, filler text)")
	s.source("INSERT INTO item SELECT i, i, repeat('f', 100) FROM generate_series(1, 20000) i")
	s.source("SELECT courier.replication_set_add_table('default', 'item')")
	s.source(`SELECT courier.create_subscription('s', 'eu', options => '{"copy_workers": 1}')`)
	var once sync.Once
	s.tell = func(sql string) {
		if strings.Contains(sql, "courier.stream_open(") { // the node's table is known by then
			once.Do(func() { s.target("ALTER TABLE item ALTER n TYPE double precision") })
		}
	}
	log, err := s.drain("")
	require.NoError(t, err, log)
	require.Equal(t, "20000 200010000", s.cluster.Value(t, "target", "SELECT count(*) || ' ' || sum(n) FROM item"))
}
