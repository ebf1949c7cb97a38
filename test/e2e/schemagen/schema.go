package schemagen

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Features are what the servers have.
type Features struct {
	Version    int // server_version_num
	ICU        bool
	Extensions map[string]bool
}

// Schema is a random schema with a stream of statements.
type Schema struct {
	Seed uint64
	Name string // of the namespace; the same on both sides

	Here, There []string // definitions on the source and on the target
	Publish     []string // calls on the source, before it subscribes
	Sets        []string // the replication sets
	Options     string   // of the subscription, as JSON
	CopyData    bool
	Plain       bool // the role on the target may not set session_replication_role
	DDL         bool // the stream holds DDL, for a set with ddl => 'auto'

	First []Step // before the subscription
	Steps []Step
}

// Sessions is how many sessions a stream uses, numbered from 0.
const Sessions = 3

// Step is one thing that a session does. Copy is what it sends after a COPY.
// A step without SQL is a call to ship, between any two statements.
type Step struct {
	Session int
	SQL     string
	Copy    string
	Patient bool // waits for locks, as others do that make schemas at the same time
	Guarded bool // in a transaction: a failure takes back no more than the step
}

// New makes the schema of a seed.
func New(seed uint64, have Features) *Schema {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), have: have}
	s := &Schema{Seed: seed}
	g.schema = s
	g.serial = int(seed%100000) * 1000 // so that no two schemas of a run have the same name
	s.Name = g.name("s")
	g.serial = 0
	s.CopyData, s.DDL = g.one(50), g.one(35)
	s.Plain = !s.DDL && g.one(40)
	s.Options = pick(g.Rand, []string{`{"on_conflict": "error"}`, `{"on_conflict": "error"}`, `{}`,
		`{"batch_rows": 1, "on_conflict": "error"}`, `{"batch_rows": 7}`, `{"batch_bytes": 2000, "on_conflict": "error"}`})

	both := []string{"CREATE SCHEMA " + ident(s.Name)}
	g.types = ident(s.Name) + "."
	if g.one(40) {
		types := s.Name
		if len(types) > 50 {
			types = "t"
		}
		types += " types"
		g.types = ident(types) + "."
		both = append(both, "CREATE SCHEMA "+ident(types))
	}
	both = append(both, g.makeTypes()...)
	s.Here, s.There = append(s.Here, both...), append(s.There, both...)
	for range 1 + g.IntN(4) {
		t := g.makeTable()
		s.Here = append(s.Here, t.here...)
		s.There = append(s.There, t.there...)
	}
	g.first()
	g.publish()
	g.stream()
	return s
}

// Namespaces are what the schema made; the first is its own.
func (s *Schema) Namespaces() []string {
	var names []string
	for _, sql := range s.Here {
		if name, ok := strings.CutPrefix(sql, "CREATE SCHEMA "); ok {
			names = append(names, name)
		}
	}
	return names
}

// publish puts the tables into sets: one for those with keys, one for those that
// only get rows, and perhaps a second that has some tables with other filters.
func (g *generator) publish() {
	s := g.schema
	base := fmt.Sprintf("set_%d", s.Seed)
	s.Sets = []string{base, base + "_log", base + "_more"}
	s.Publish = []string{
		"SELECT courier.create_replication_set(" + quote(s.Sets[0]) + ")",
		"SELECT courier.create_replication_set(" + quote(s.Sets[1]) + ", replicate_update => false, replicate_delete => false)",
		"SELECT courier.create_replication_set(" + quote(s.Sets[2]) + ")",
	}
	if s.DDL {
		for _, set := range s.Sets {
			s.Publish = append(s.Publish, "SELECT courier.alter_replication_set("+quote(set)+", ddl => 'auto')")
		}
		s.Publish = append(s.Publish, "SELECT courier.replication_set_add_schema("+quote(base)+", "+quote(s.Name)+")")
	}
	for _, t := range g.tables {
		set := s.Sets[0]
		if t.identity == byNothing {
			set = s.Sets[1]
		}
		s.Publish = append(s.Publish, t.add(set, t.filter, t.listed))
		if t.filter != "" && t.identity != byNothing && g.one(30) {
			if other := g.filterOf(t); other != "" {
				s.Publish = append(s.Publish, t.add(s.Sets[2], other, t.listed))
			}
		}
	}
}

// add is the call that puts the table into a set.
func (t *table) add(set, filter string, listed []*column) string {
	call := "SELECT courier.replication_set_add_table(" + quote(set) + ", " + quote(t.quoted)
	if listed != nil {
		var names []string
		for _, c := range listed {
			names = append(names, c.name)
		}
		call += ", columns => " + nameArray(names)
	}
	if filter != "" {
		call += ", row_filter => " + quote(filter)
	}
	return call + ")"
}

// filterOf is a condition on columns of the table, or none.
func (g *generator) filterOf(t *table) string {
	var terms []string
	for _, c := range t.columns {
		if len(c.kind.filters) > 0 && g.one(50) {
			terms = append(terms, "("+strings.ReplaceAll(pick(g.Rand, c.kind.filters), "$", ident(c.name))+")")
		}
	}
	if len(terms) > 2 {
		terms = terms[:2]
	}
	return strings.Join(terms, pick(g.Rand, []string{" OR ", " AND "}))
}
