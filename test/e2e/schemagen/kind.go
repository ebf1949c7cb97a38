package schemagen

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// kind is a type of columns.
type kind struct {
	sql   string                    // in a definition
	cast  string                    // in an expression, if that differs
	text  func(r *rand.Rand) string // input form of a value; few enough to meet again
	key   bool                      // has a btree order
	hash  bool                      // and can be hashed
	small bool                      // integers, most of them from 0 to 11
	wider string                    // a type with the same text for the same value
	plain bool                      // text that functions of text take
	// conditions of row filters and of statements, $ is the column
	filters []string
	// expressions of another value of the same type, $ is the column
	steps []string
}

// castType is the type's name in an expression.
func (k *kind) castType() string {
	if k.cast != "" {
		return k.cast
	}
	return k.sql
}

// literal is the text of a value as an expression.
func (k *kind) literal(text string) string { return quote(text) + "::" + k.castType() }

func of(values ...string) func(r *rand.Rand) string {
	return func(r *rand.Rand) string { return pick(r, values) }
}

func smallNumber(r *rand.Rand) string {
	if r.IntN(40) == 0 {
		return strconv.Itoa(100 + r.IntN(900))
	}
	return strconv.Itoa(r.IntN(12))
}

var awkward = []string{"", "a", "b", "A", "ä", "o'k", `b\s`, `"q"`, "{x,NULL}", "(1,2)", "null", "NULL", "tab\t", "line\nline", "$$", "%s", "漢字", " x "}

func awkwardText(r *rand.Rand) string { return pick(r, awkward) + pick(r, []string{"", "", "1", "2"}) }

// anyText may be wide enough to be kept out of line.
func anyText(r *rand.Rand) string {
	switch r.IntN(12) {
	case 0:
		return strings.Repeat(awkwardText(r)+strconv.Itoa(r.IntN(1000)), 1000)
	case 1: // does not compress
		var b strings.Builder
		for b.Len() < 9000 {
			b.WriteString(strconv.FormatUint(r.Uint64(), 36))
		}
		return b.String()
	}
	return awkwardText(r)
}

var numberFilters = []string{"$ % 3 <> 1", "$ > 4", "$ IS NOT NULL", "$ BETWEEN 2 AND 8 OR $ IS NULL", "NOT ($ IN (1, 2, 3))"}
var textFilters = []string{`$ < 'b' COLLATE "C"`, "$ IS NOT NULL", "length($) % 2 = 0", "left($, 1) <> 'o'", "$ IS DISTINCT FROM 'a1'"}

// builtinKinds are types of every database.
func builtinKinds(have Features) []*kind {
	number := func(sql, wider string) *kind {
		return &kind{sql: sql, wider: wider, text: smallNumber, key: true, hash: true, small: true,
			filters: numberFilters, steps: []string{"$ + 1", "11 - $", "($ * 5 + 3) % 12"}}
	}
	texts := []string{"$ || 'x'", "left($, 1)", "upper($)"}
	kinds := []*kind{
		number("integer", "bigint"), number("smallint", "integer"), number("bigint", "numeric"),
		{sql: "text", text: anyText, plain: true, filters: textFilters, steps: texts},
		{sql: "text", text: awkwardText, key: true, hash: true, plain: true, filters: textFilters, steps: texts},
		{sql: `text COLLATE "C"`, cast: "text", text: awkwardText, key: true, hash: true, plain: true, filters: textFilters, steps: texts},
		{sql: "varchar(30)", wider: "text", text: awkwardText, key: true, hash: true, plain: true, filters: textFilters, steps: []string{"left($, 1)"}},
		{sql: "character(5)", text: of("a", "b", "A", "x y", "", "ä"), key: true, hash: true},
		{sql: `"char"`, text: of("a", "B", `\`, `"`), key: true, hash: true},
		{sql: "name", text: of("a", "B", `"`, `\`, "x y"), key: true, hash: true},
		{sql: "numeric", text: of("0", "1", "1.0", "1.00", "-2.5", "NaN", "12345678901234567890.123", "Infinity", "3", "4"), key: true, hash: true,
			filters: []string{"$ > 1", "$ = 1"}, steps: []string{"$ + 1.0", "$ * 1.00"}},
		{sql: "numeric(12,3)", wider: "numeric", text: of("0", "1", "1.5", "-2.5", "7.125"), key: true, hash: true, filters: []string{"$ > 1"}},
		{sql: "real", text: of("0", "-0", "1.5", "3.4e38", "1e-40", "NaN", "0.1"), key: true, hash: true},
		{sql: "double precision", text: of("0", "-0", "0.1", "1e300", "NaN", "-Infinity", "0.30000000000000004"), key: true, hash: true,
			filters: []string{"$ > 0", "$ IS NULL"}},
		{sql: "boolean", text: of("t", "f"), key: true, hash: true, filters: []string{"$", "NOT $", "$ IS NOT TRUE"}, steps: []string{"NOT $"}},
		{sql: "date", text: of("2024-02-29", "0044-03-15 BC", "infinity", "2024-01-01", "1999-12-31"), key: true, hash: true, filters: []string{"$ > '2020-01-01'"}},
		{sql: "time", text: of("00:00", "24:00", "12:34:56.789"), key: true, hash: true},
		{sql: "timetz", text: of("00:00+00", "12:34:56.789-05:30", "01:00+01"), key: true, hash: true},
		{sql: "timestamp", text: of("2024-02-29 01:02:03.456789", "infinity", "0044-03-15 12:00 BC", "2024-01-01"), key: true, hash: true},
		{sql: "timestamptz", text: of("2024-10-27 01:30+00", "2024-10-27 01:30+01", "-infinity", "2024-02-03 04:05:06.7+05:45"), key: true, hash: true,
			filters: []string{"$ > '2024-10-27 00:45+00'"}},
		{sql: "interval", text: of("P1D", "PT24H", "P1M", "P30D", "P-1Y2M3DT-4H5M6.7S", "PT0S"), key: true, hash: true},
		{sql: "bytea", text: of(`\x`, `\x00`, `\xff5c27`, `\x5c78`, `\x0001020304`), key: true, hash: true},
		{sql: "uuid", text: of("00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ffffffff-ffff-ffff-ffff-ffffffffffff"), key: true, hash: true,
			filters: []string{"$ <> '00000000-0000-0000-0000-000000000001'"}},
		{sql: "json", text: of(`{"b":1,  "a":[1,2]}`, "null", `"x"`, "[ ]", `{"a":1,"a":2}`)},
		{sql: "jsonb", text: of(`{"b":1,"a":[1,2]}`, "null", `"o'x"`, "[]", "1.0", "1.00"), key: true, hash: true,
			filters: []string{"$ IS NOT NULL", "jsonb_typeof($) = 'object'"}, steps: []string{"jsonb_build_array($)"}},
		{sql: "xml", text: of("<a/>", "<a>1</a>", "x &amp; y")},
		{sql: "inet", text: of("10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::1/64"), key: true, hash: true},
		{sql: "cidr", text: of("10.0.0.0/8", "::/0", "192.168.1.0/24"), key: true, hash: true},
		{sql: "macaddr", text: of("08:00:2b:01:02:03", "00:00:00:00:00:00"), key: true, hash: true},
		{sql: "bit(4)", text: of("0000", "1010", "1111"), key: true, hash: false},
		{sql: "varbit", text: of("", "1", "0101"), key: true, hash: false},
		{sql: "money", text: of("1.50", "-2", "0", "1234.56"), key: true, hash: false},
		{sql: "point", text: of("(0,0)", "(1.5,-2)", "(1e10,NaN)")},
		{sql: "polygon", text: of("((0,0),(1,1),(1,0))", "((0,0))")},
		{sql: "tsvector", text: of("", "'a':1", "'it''s':1B 'b'"), key: true},
		{sql: "pg_lsn", text: of("0/0", "1/FF"), key: true, hash: true},
		{sql: "oid", text: of("0", "1", "4294967295"), key: true, hash: true},
		{sql: "jsonpath", text: of("$", "$.\"a\"[*]")},
		{sql: "int4range", text: of("empty", "[1,5)", "(,)", "[7,)", "[2,3]", "(5,7]"), key: true, hash: true},
		{sql: "numrange", text: of("empty", "[1.0,2]", "[1,2.00]", "(,)"), key: true, hash: true},
		{sql: "tstzrange", text: of("empty", "[2024-01-01 00:00+00,2024-02-01 00:00+01)", "(,)"), key: true, hash: true},
		{sql: "integer[]", text: of("{}", "{1,2}", "{NULL}", "[0:1]={1,2}", "{{1,2},{3,4}}"), key: true, hash: true,
			filters: []string{"cardinality($) > 1", "$ IS NULL"}, steps: []string{"$ || 7"}},
		{sql: "text[]", text: of("{}", `{"a,b",NULL}`, `{"\"","\\"}`, `{"",x,"NULL"}`), key: true, hash: true},
		{sql: "timestamptz[]", text: of("{}", `{"2024-10-27 01:30+00",infinity}`, "{NULL}"), key: true, hash: true},
		{sql: "jsonb[]", text: of("{}", `{"{\"a\":1}",NULL}`), key: true, hash: true},
	}
	if have.Version >= 140000 {
		kinds = append(kinds,
			&kind{sql: "int4multirange", text: of("{}", "{[1,3),[5,8)}", "{(,)}"), key: true, hash: true},
			&kind{sql: "nummultirange", text: of("{}", "{[1.0,3],[5,8.00)}"), key: true, hash: true})
	}
	for _, extension := range []*kind{
		{sql: "public.hstore", text: of("", "a=>1", `"o'q"=>"x\"y",b=>NULL`), key: true, hash: true},
		{sql: "public.citext", text: of("a", "A", "ä", "b", "o'k"), key: true, hash: true},
		{sql: "public.ltree", text: of("", "a", "a.b.c", "x"), key: true},
	} {
		if have.Extensions[strings.TrimPrefix(extension.sql, "public.")] {
			kinds = append(kinds, extension)
		}
	}
	return kinds
}

// makeTypes adds the schema's own types to those it has, and gives their definitions.
func (g *generator) makeTypes() []string {
	p := g.types
	name := func(base string) string { return p + ident(g.name(base)) }
	g.mood = name("mood")
	positive, code, pair, deep := name("positive"), name("code"), name("pair"), name("deep")
	ofPair, ints, span := name("of_pair"), name("ints"), name("span")
	collation := `"C"`
	var ddl []string
	if g.have.ICU {
		collation = name("nocase")
		ddl = append(ddl, "CREATE COLLATION "+collation+" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	}
	ddl = append(ddl,
		"CREATE TYPE "+g.mood+" AS ENUM ('sad', 'ok', 'o''k \"x\",', 'happy')",
		"CREATE DOMAIN "+positive+" AS integer CHECK (VALUE >= 0)",
		"CREATE DOMAIN "+code+" AS text COLLATE "+collation+" CHECK (length(VALUE) < 90)",
		"CREATE TYPE "+pair+" AS (a integer, "+ident(g.name("b"))+" text)",
		"CREATE TYPE "+deep+" AS (p "+pair+", m "+g.mood+"[], d date)",
		"CREATE DOMAIN "+ofPair+" AS "+pair,
		"CREATE DOMAIN "+ints+" AS integer[] CHECK (cardinality(VALUE) < 9)",
		fmt.Sprintf("CREATE TYPE %s AS RANGE (subtype = double precision)", span))
	moods := of("sad", "ok", `o'k "x",`, "happy")
	pairs := of("(1,a)", "(,)", `(2,"x ""y"", o'z")`, "(1,)", "(3,b)")
	g.kinds = append(builtinKinds(g.have),
		&kind{sql: g.mood, text: moods, key: true, hash: true, filters: []string{"$ <> 'ok'", "$ > 'sad'"}},
		&kind{sql: positive, text: smallNumber, key: true, hash: true, small: true, steps: []string{"($ + 1) % 12"}},
		&kind{sql: code, text: of("a", "A", "b", "ä", "", `o'k\`), key: true, hash: true},
		&kind{sql: "text COLLATE " + collation, cast: "text", text: of("a", "A", "b", "Ä", `o"k`), key: true, hash: true},
		&kind{sql: pair, text: pairs, key: true, hash: true},
		&kind{sql: ofPair, text: pairs, key: true},
		&kind{sql: deep, text: of(`("(1,a)","{ok,happy}",2024-01-01)`, "(,,)", `("(2,""x y"")","{}",)`), key: true},
		&kind{sql: ints, text: of("{}", "{1,NULL}", "{3,4}"), key: true},
		&kind{sql: span, text: of("empty", "[0.1,2)", "(,)", "[-1,1e300]"), key: true, hash: true},
		&kind{sql: g.mood + "[]", text: of("{}", "{ok,NULL}", `{"o'k \"x\","}`), key: true, hash: true},
		&kind{sql: pair + "[]", text: of("{}", `{"(1,a)",NULL}`, `{"(2,\"x,y\")"}`), key: true},
		&kind{sql: positive + "[]", text: of("{}", "{1,2}"), key: true})
	return ddl
}

// kindWhere is a random type for which a condition holds.
func (g *generator) kindWhere(condition func(k *kind) bool) *kind {
	for {
		if k := pick(g.Rand, g.kinds); condition(k) {
			return k
		}
	}
}
