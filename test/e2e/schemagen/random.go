package schemagen

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator has what is decided once a schema.
type generator struct {
	*rand.Rand
	have   Features
	schema *Schema

	types  string // quoted namespace of the types, and a dot
	kinds  []*kind
	tables []*table
	serial int // numbers what is named

	mood string // the enum
}

// migrating says that the stream has begun: a new table is taken as it is made.
func (g *generator) migrating() bool { return g.schema.Publish != nil }

// one says yes in p of 100 cases.
func (g *generator) one(p int) bool { return g.IntN(100) < p }

// pick gives one of several.
func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// shuffled is a copy in another order.
func shuffled[T any](r *rand.Rand, of []T) []T {
	other := append([]T(nil), of...)
	r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	return other
}

// some is a part of a list, in its order, with least elements or more.
func some[T any](r *rand.Rand, of []T, least int) []T {
	want := min(len(of), least+r.IntN(max(1, len(of)-least+1)))
	var part []T
	for i, one := range of {
		if r.IntN(len(of)-i) < want-len(part) {
			part = append(part, one)
		}
	}
	return part
}

// oddNames are legal names, %d is the number that makes them differ.
var oddNames = []string{
	`Upper %d`, `quo"te%d`, `apo'strophe %d`, `back\slash%d`, `dot.ted.%d`, `select %d`, `größe_%d`, `%d starts`,
	`per%%cent %%s %d`, `dollar$$%d$1`, `semi;colon--%d`, `comma,(%d)`, `brace{%d}"`, ` space %d `, "tab\t%d", "line\n%d", `名前%d`,
	`:colon:%d'`, `!bang%d`, `long_%d_` + `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`,
}

// name is one that nothing else of the schema has.
func (g *generator) name(base string) string {
	g.serial++
	if g.one(25) {
		return fmt.Sprintf(pick(g.Rand, oddNames), g.serial)
	}
	return fmt.Sprintf("%s%d", base, g.serial)
}

// ident quotes a name.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quote quotes a text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// nameArray is a list of names as a literal of name[].
func nameArray(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name)+`"`)
	}
	return quote("{" + strings.Join(quoted, ",") + "}")
}
