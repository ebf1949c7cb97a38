package schemagen

import "fmt"

// statements of a stream, and how many of them are before the subscription.
const (
	firstStatements = 12
	statements      = 50
)

// settings that a session may have.
var settings = []string{
	"DateStyle = 'German, DMY'", "DateStyle = 'SQL, MDY'", "TimeZone = 'Asia/Kathmandu'", "IntervalStyle = 'sql_standard'",
	"IntervalStyle = 'iso_8601'", "extra_float_digits = -10", "bytea_output = 'escape'", "search_path = 'pg_temp, public'", "xmloption = 'document'",
	"default_toast_compression = 'pglz'", "enable_indexscan = off", "plan_cache_mode = 'force_generic_plan'", "quote_all_identifiers = on",
}

// session is where one is in its transaction.
type session struct {
	open       bool
	savepoints int
}

// first makes what is there before the subscription.
func (g *generator) first() {
	for range firstStatements {
		g.schema.First = append(g.schema.First, g.statement())
	}
}

// stream makes the steps of all sessions.
func (g *generator) stream() {
	s := g.schema
	for i := range Sessions {
		if g.one(50) {
			s.Steps = append(s.Steps, Step{Session: i, SQL: "SET " + pick(g.Rand, settings)})
		}
	}
	var sessions [Sessions]session
	prepared, begins := 0, 35
	if s.DDL { // which waits until no transaction is open
		begins = 15
	}
	for range statements {
		i := g.IntN(Sessions)
		if g.one(60) {
			i = 0
		}
		at := &sessions[i]
		do := func(sql string) { s.Steps = append(s.Steps, Step{Session: i, SQL: sql}) }
		if g.one(4) {
			s.Steps = append(s.Steps, Step{})
		}
		switch {
		case !at.open && g.one(begins):
			do("BEGIN ISOLATION LEVEL " + pick(g.Rand, []string{"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}))
			*at = session{open: true}
		case at.open && g.one(10):
			do(fmt.Sprintf("SAVEPOINT s%d", at.savepoints))
			at.savepoints++
		case at.open && at.savepoints > 0 && g.one(20):
			to := g.IntN(at.savepoints)
			if g.one(70) {
				do(fmt.Sprintf("ROLLBACK TO s%d", to))
				at.savepoints = to + 1
			} else {
				do(fmt.Sprintf("RELEASE s%d", to))
				at.savepoints = to
			}
		case at.open && g.one(22):
			switch {
			case g.one(15):
				do("ROLLBACK")
			case g.one(12):
				do(fmt.Sprintf("PREPARE TRANSACTION 'p%d_%d'", s.Seed, prepared))
				prepared++
			default:
				do("COMMIT")
			}
			*at = session{}
		case prepared > 0 && !at.open && g.one(15):
			do(g.ended(&prepared))
		case !at.open && g.one(4):
			if sql := g.again(); sql != "" {
				do(sql)
			}
		}
		if s.DDL && prepared == 0 && sessions == [Sessions]session{} && g.one(ddlShare) {
			s.Steps = append(s.Steps, g.migrate(i)...)
			continue
		}
		step := g.statement()
		step.Session = i
		s.Steps = append(s.Steps, step)
	}
	for i := range Sessions {
		if sessions[i].open {
			s.Steps = append(s.Steps, Step{Session: i, SQL: pick(g.Rand, []string{"COMMIT", "COMMIT", "ROLLBACK"})})
		}
	}
	for prepared > 0 {
		s.Steps = append(s.Steps, Step{SQL: g.ended(&prepared)})
	}
}

// ended is the end of the transaction that was prepared last.
func (g *generator) ended(prepared *int) string {
	*prepared--
	return fmt.Sprintf("%s PREPARED 'p%d_%d'", pick(g.Rand, []string{"COMMIT", "COMMIT", "ROLLBACK"}), g.schema.Seed, *prepared)
}
