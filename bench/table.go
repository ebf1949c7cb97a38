package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// table is one of those that are shipped. Every peer can tell its rows apart by
// the primary key.
type table struct {
	name    string
	key     string
	columns string // of CREATE TABLE
	indexes string // columns of further indexes, semicolons between
}

var (
	// accounts is the table of most measurements: rows of 70 bytes.
	accounts = &table{name: "acc", key: "aid", columns: `aid int PRIMARY KEY, bid int NOT NULL, abalance int,
		filler text, ts timestamptz, amount numeric(12,2)`}

	// indexed is the same with indexes as applications have them.
	indexed = &table{name: "indexed", key: accounts.key, columns: accounts.columns, indexes: "bid, abalance; filler; ts"}

	customers = &table{name: "customer", key: "cid", columns: "cid int PRIMARY KEY, name text NOT NULL, since date"}
	orders    = &table{name: "orders", key: "oid", columns: `oid int PRIMARY KEY, cid int NOT NULL REFERENCES customer, state text NOT NULL,
		placed timestamptz, total numeric(12,2)`}
	items = &table{name: "item", key: "iid", columns: `iid int PRIMARY KEY, oid int NOT NULL REFERENCES orders, article text NOT NULL,
		quantity int, price numeric(12,2)`}

	// wide has rows of 2 kB, which do not compress.
	wide = &table{name: "wide", key: "id", columns: "id int PRIMARY KEY, v int, body text"}

	// mixed has twenty columns of the types that most databases have.
	mixed = &table{name: "mixed", key: "id", columns: `id int8 PRIMARY KEY, i2 int2, i4 int, i8 int8, f4 float4, f8 float8, n numeric(20,6), b bool,
		t text, vc varchar(40), c char(8), d date, ts timestamp, tz timestamptz, iv interval,
		u uuid, j jsonb, ba bytea, ia int[], ta text[]`}
)

// createTables are the statements that make tables.
func createTables(tables []*table) string {
	var b strings.Builder
	for _, t := range tables {
		fmt.Fprintf(&b, "CREATE TABLE %s (%s);\n", t.name, t.columns)
		if t.indexes != "" {
			for columns := range strings.SplitSeq(t.indexes, "; ") {
				fmt.Fprintf(&b, "CREATE INDEX ON %s (%s);\n", t.name, columns)
			}
		}
	}
	return b.String()
}

// insertAccounts adds accounts $from to $to.
func insertAccounts(name string, from, to int) string {
	return insertAccountsBetween(name, strconv.Itoa(from), strconv.Itoa(to))
}

// insertAccountsBetween adds accounts $from to $to, which are expressions.
func insertAccountsBetween(name, from, to string) string {
	return fmt.Sprintf(`INSERT INTO %s SELECT r, r %% 100, 0, 'customer account number ' || r,
		timestamptz '2026-01-01 00:00:00.123456+00' + r * interval '1.001 second', (r %% 1000000) * 1.07
		FROM generate_series(%s, %s) AS r`, name, from, to)
}

// noise is text that does not compress.
var noise = func() string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"
	random := rand.New(rand.NewPCG(1, 2)) // the same on every machine
	text := make([]byte, 8000)
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}()

// insertWide adds wide rows $from to $to, which are expressions.
func insertWide(name, from, to string) string {
	return fmt.Sprintf("INSERT INTO %s SELECT r, 0, substr('%s', r %% 5900 + 1, 2048) FROM generate_series(%s, %s) AS r", name, noise, from, to)
}

// insertMixed adds mixed rows $from to $to, which are expressions.
func insertMixed(from, to string) string {
	return fmt.Sprintf(`INSERT INTO mixed SELECT r, r %% 30000, r, r * 1000000007::int8, r * 0.5, r / 7.0, r * 1.000001, r %% 2 = 0,
		'text of row ' || r, 'varchar ' || r %% 1000, 'c' || r %% 10000, date '2026-01-01' + r %% 1000,
		timestamp '2026-01-01' + r * interval '1.5 second', timestamptz '2026-01-01 00:00:00+00' + r * interval '1.5 second',
		r * interval '1 minute', md5(r::text)::uuid, jsonb_build_object('n', r, 'tags', jsonb_build_array('a', r %% 10)),
		decode(md5(r::text), 'hex'), ARRAY[r, r + 1, NULL], ARRAY['x' || r, 'a "quoted" one']
		FROM generate_series(%s, %s) AS r`, from, to)
}
