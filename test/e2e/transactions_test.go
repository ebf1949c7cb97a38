package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// propertyTables are what random transactions write to.
const propertyTables = `
CREATE TABLE counter (id int PRIMARY KEY, v int NOT NULL, note text);
CREATE TABLE label (code text PRIMARY KEY, v int);
CREATE TABLE document (a int, b text, body text, v int, PRIMARY KEY (a, b));
ALTER TABLE document ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE journal (token text, what text);`

// propertyKeyed are those with a key; journal has none.
var propertyKeyed = []string{"counter", "label", "document"}

// Keys are few, so that transactions meet each other's rows.
const (
	counters  = 300
	labels    = 100
	documents = 80
)

// awkward is what text keys begin with: whatever quoting may get wrong.
var awkward = []string{"", "NULL", "plain", `back\slash`, "quo'te", `dou"ble`, "{brace,comma}", " blank ", "ünï–☃😀", "$1 $$", "line\nbreak"}

// generator makes random transactions.
type generator struct {
	random *rand.Rand
	spread int // there are so many times as many keys; 0 for once
}

// pick chooses one of so many keys.
func (g *generator) pick(keys int) int { return g.random.IntN(keys * max(1, g.spread)) }

// transaction is the statements between BEGIN and the end.
type transaction struct {
	isolation  string
	statements []string
}

func (g *generator) transaction(token string) transaction {
	tx := transaction{isolation: "READ COMMITTED"}
	switch g.random.IntN(10) {
	case 0, 1:
		tx.isolation = "REPEATABLE READ"
	case 2:
		tx.isolation = "SERIALIZABLE"
	}
	tx.statements = g.block(0)
	journal := fmt.Sprintf("INSERT INTO journal VALUES (%s, 'tx')", quoted(token))
	at := g.random.IntN(len(tx.statements) + 1)
	if at < len(tx.statements) && g.random.IntN(2) == 0 {
		at = len(tx.statements) // outside of every savepoint
	}
	tx.statements = append(tx.statements[:at:at], append([]string{journal}, tx.statements[at:]...)...)
	return tx
}

// block is some statements with savepoints among them, nested up to three deep,
// each released, rolled back, or left to the end of the transaction.
func (g *generator) block(depth int) []string {
	var statements []string
	for range 1 + g.random.IntN(4) {
		switch {
		case depth < 3 && g.random.IntN(4) == 0:
			name := fmt.Sprintf("s%d", depth)
			statements = append(statements, "SAVEPOINT "+name)
			statements = append(statements, g.block(depth+1)...)
			switch g.random.IntN(5) {
			case 0, 1:
				statements = append(statements, "ROLLBACK TO "+name)
			case 2:
				// rolled back twice: the savepoint itself survives the first
				statements = append(statements, "ROLLBACK TO "+name, g.statement(), "ROLLBACK TO "+name, "RELEASE "+name)
			case 3:
				statements = append(statements, "RELEASE "+name)
			}
		case g.random.IntN(6) == 0:
			statements = append(statements, g.exceptionBlock())
		default:
			statements = append(statements, g.statement())
		}
	}
	return statements
}

// exceptionBlock is plpgsql whose inner block fails or not, which makes a
// subtransaction that is rolled back or not.
func (g *generator) exceptionBlock() string {
	failure := ""
	if g.random.IntN(2) == 0 {
		failure = "PERFORM 1 / 0;"
	}
	return fmt.Sprintf(`DO $courier$ BEGIN
		%s;
		BEGIN
			%s;
			BEGIN %s; %s EXCEPTION WHEN division_by_zero THEN %s; END;
			%s
		EXCEPTION WHEN division_by_zero OR unique_violation THEN
			%s;
		END;
	END $courier$`, g.statement(), g.statement(), g.statement(), failure, g.statement(),
		[]string{"", "PERFORM 1 / 0;"}[g.random.IntN(2)], g.statement())
}

// statement changes some rows of one table.
func (g *generator) statement() string {
	switch g.random.IntN(7) {
	case 0, 1, 2:
		return g.counter()
	case 3:
		return g.label()
	case 4, 5:
		return g.document()
	}
	return fmt.Sprintf("INSERT INTO journal SELECT %s, 'n' || i FROM generate_series(1, %d) i",
		quoted(g.text(20)), 1+g.random.IntN(3))
}

func (g *generator) counter() string {
	id, other, v := g.pick(counters), g.pick(counters), g.random.IntN(1000)
	switch g.random.IntN(10) {
	case 0:
		return fmt.Sprintf("INSERT INTO counter VALUES (%d, %d, %s) ON CONFLICT DO NOTHING", id, v, g.nullable(30))
	case 1, 2:
		return fmt.Sprintf("INSERT INTO counter VALUES (%d, %d, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v, note = excluded.note",
			id, v, g.nullable(30))
	case 3, 4:
		return fmt.Sprintf("UPDATE counter SET v = v + %d WHERE id = %d", v, id)
	case 5:
		return fmt.Sprintf("UPDATE counter SET note = %s WHERE id BETWEEN %d AND %d", g.nullable(30), id, id+5)
	case 6:
		return fmt.Sprintf("UPDATE counter SET id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM counter WHERE id = %[1]d)", other, id)
	case 7: // two rows change places, which no order of single updates allows on the target
		return fmt.Sprintf("UPDATE counter SET id = %d WHERE id = %d; UPDATE counter SET id = %[2]d WHERE id = %[3]d; UPDATE counter SET id = %[3]d WHERE id = %[1]d",
			-1-id, id, other)
	case 8:
		return fmt.Sprintf("DELETE FROM counter WHERE id BETWEEN %d AND %d", id, id+g.random.IntN(4))
	}
	return fmt.Sprintf("DELETE FROM counter WHERE id = %d", id)
}

func (g *generator) label() string {
	code, other := quoted(g.code()), quoted(g.code())
	switch g.random.IntN(5) {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO label VALUES (%s, %d) ON CONFLICT (code) DO UPDATE SET v = excluded.v", code, g.random.IntN(100))
	case 2:
		return fmt.Sprintf("UPDATE label SET v = CASE WHEN v %% 3 = 0 THEN NULL ELSE coalesce(v, 0) + 1 END WHERE code = %s", code)
	case 3:
		return fmt.Sprintf("UPDATE label SET code = %s WHERE code = %s AND NOT EXISTS (SELECT FROM label WHERE code = %[1]s)", other, code)
	}
	return fmt.Sprintf("DELETE FROM label WHERE code = %s", code)
}

func (g *generator) document() string {
	n := g.pick(documents)
	a, b := n/8, quoted(fmt.Sprintf("b%d", n%8))
	switch g.random.IntN(7) {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO document VALUES (%d, %s, %s, 0) ON CONFLICT (a, b) DO UPDATE SET body = excluded.body",
			a, b, g.body())
	case 2, 3: // the wide column is not touched
		return fmt.Sprintf("UPDATE document SET v = v + 1 WHERE a = %d AND b = %s", a, b)
	case 4:
		return fmt.Sprintf("UPDATE document SET body = %s WHERE a = %d AND b = %s", g.body(), a, b)
	case 5: // a new key, and the wide column is not touched
		m := g.pick(documents)
		return fmt.Sprintf("UPDATE document SET a = %d, b = %s WHERE a = %d AND b = %s AND NOT EXISTS (SELECT FROM document WHERE a = %[1]d AND b = %[2]s)",
			m/8, quoted(fmt.Sprintf("b%d", m%8)), a, b)
	}
	return fmt.Sprintf("DELETE FROM document WHERE a = %d AND b = %s", a, b)
}

// body is NULL, short, or wide enough to be kept out of line.
func (g *generator) body() string {
	switch g.random.IntN(5) {
	case 0:
		return "NULL"
	case 1:
		return quoted(g.text(50))
	}
	return fmt.Sprintf("repeat(%s, %d)", quoted(g.text(20)+"."), 200+g.random.IntN(600))
}

func (g *generator) code() string {
	n := g.pick(labels)
	return awkward[n%len(awkward)] + fmt.Sprint(n/len(awkward))
}

func (g *generator) nullable(most int) string {
	if g.random.IntN(4) == 0 {
		return "NULL"
	}
	return quoted(g.text(most))
}

// text is random, with the characters that matter to quoting among others.
func (g *generator) text(most int) string {
	const alphabet = `abcdefghijklmnopqrstuvwxyz'"\{},() `
	var b strings.Builder
	for range g.random.IntN(most + 1) {
		b.WriteByte(alphabet[g.random.IntN(len(alphabet))])
	}
	return b.String()
}

// quoted is a literal; standard_conforming_strings is on.
func quoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}
