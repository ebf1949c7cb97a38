package compare

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/ship"
)

// rounds is how often a row that is changed all the time is looked at.
const rounds = 8

// verdict is what has become of a candidate.
type verdict struct {
	kind  Kind // "" while it is open
	key   []string
	equal bool
	other bool  // the node has the key, written in another way
	count int64 // rows that differ, and rows that were compared
	all   int64
}

// settle decides about the rows that seemed to differ; see doc.go.
func (c *comparison) settle(ctx context.Context, t *table) error {
	keys := make([][]string, 0, len(t.candidates))
	for _, id := range slices.Sorted(maps.Keys(t.candidates)) {
		keys = append(keys, t.candidates[id])
	}
	clear(t.candidates)
	for len(keys) > 0 {
		some := keys[:min(len(keys), settleRows)]
		keys = keys[len(some):]
		if err := c.settleSome(ctx, t, some); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) settleSome(ctx context.Context, t *table, keys [][]string) error {
	var found []verdict
	before, behind := make([]*row, len(keys)), make([]*row, len(keys)) // S and T of the round before
	for round := range rounds {
		here, err := c.lookUp(ctx, t, t.here, keys)
		if err != nil {
			return err
		}
		if err = c.catchUp(ctx); err != nil {
			return err
		}
		there, err := c.lookUp(ctx, t, t.there, keys)
		if err != nil {
			return err
		}
		var open [][]string
		var s, after []*row
		for i, key := range keys {
			v := decide(round > 0, before[i], behind[i], here[i], there[i])
			switch {
			case v.equal:
				t.answer.Rows += v.all
			case v.kind != "":
				if v.key == nil {
					v.key = key
				}
				found = append(found, v)
			default:
				open, s, after = append(open, key), append(s, here[i]), append(after, there[i])
			}
		}
		keys, before, behind = open, s, after
		if len(keys) == 0 {
			break
		}
	}
	t.answer.Unsettled += int64(len(keys))
	return c.record(ctx, t, found)
}

// decide says what a candidate is by the reads of two rounds: S, T, and behind
// them S and T again.
func decide(again bool, s, t, sAgain, tAgain *row) verdict {
	switch {
	case sAgain == nil && tAgain == nil:
		return verdict{equal: true}
	case sAgain != nil && tAgain != nil && sAgain.hash == tAgain.hash:
		return verdict{equal: true, all: sAgain.count}
	case !again:
		return verdict{}
	case s != nil && sAgain != nil && s.version == sAgain.version && s.hash == sAgain.hash:
		v := verdict{key: s.key, all: s.count, count: 1}
		switch {
		case t == nil:
			v.kind, v.count = Missing, s.count
		case s.count > t.count:
			v.kind, v.count = Missing, s.count-t.count
		case s.count < t.count:
			v.kind, v.count, v.all = Extra, t.count-s.count, t.count
		default:
			v.kind, v.other = Different, joined(s.key) != joined(t.key)
		}
		return v
	case sAgain == nil && t != nil && tAgain != nil && t.version == tAgain.version:
		return verdict{kind: Extra, key: tAgain.key, count: tAgain.count, all: tAgain.count}
	}
	return verdict{}
}

// record takes rows that differ into the answer.
func (c *comparison) record(ctx context.Context, t *table, found []verdict) error {
	seen := make(map[string]bool) // a key that equals another may be written in two ways
	kept := found[:0]
	for _, v := range found {
		if id := joined(v.key); !seen[id] {
			seen[id] = true
			t.answer.Rows += v.all
			if !t.unsent[v.kind] {
				kept = append(kept, v)
			}
		}
	}
	letters, err := c.deadLetters(ctx, t, kept)
	if err != nil {
		return err
	}
	for i, v := range kept {
		switch v.kind {
		case Missing:
			t.answer.Missing += v.count
		case Extra:
			t.answer.Extra += v.count
		case Different:
			t.answer.Different += v.count
		}
		if letters[i] {
			t.answer.DeadLettered++
		} else if c.Repair != Nothing && !t.keyless {
			if v.other {
				t.replace = append(t.replace, v.key)
			} else {
				t.resend = append(t.resend, v.key)
			}
		}
		if t.keyless || len(t.answer.Keys) >= c.MaxKeys {
			t.answer.NotShown += v.count
			continue
		}
		t.answer.Keys = append(t.answer.Keys, Difference{Columns: t.keys, Key: v.key, Kind: v.kind, DeadLetter: letters[i]})
	}
	return c.repairFull(ctx, t)
}

// deadLetters says which of the rows are those of dead letters that nobody has
// settled.
func (c *comparison) deadLetters(ctx context.Context, t *table, found []verdict) ([]bool, error) {
	of := make([]bool, len(found))
	if len(found) == 0 || t.keyless {
		return of, nil
	}
	places := make(map[string]int, len(found))
	ids := make([]string, len(found))
	for i, v := range found {
		ids[i] = ship.RowID(t.OID, t.keys, v.key)
		places[ids[i]] = i
	}
	rows, err := c.Session.Query(ctx, `SELECT DISTINCT pg_catalog.replace(y.key_id::pg_catalog.text, '-', ''), y.key IS NULL
		FROM courier.dead_letter_key y JOIN courier.dead_letter_entry d USING (dead_letter_id)
		WHERE d.subscription_id = $1::pg_catalog.int4 AND d.state NOT IN ('applied', 'discarded') AND y.relation = $2::pg_catalog.oid
		  AND (y.key IS NULL OR y.key_id = ANY ($3::pg_catalog.uuid[]))`,
		strconv.Itoa(c.sub.ID), strconv.FormatUint(uint64(t.OID), 10), "{"+strings.Join(ids, ",")+"}")
	if err != nil {
		return nil, fmt.Errorf("look for dead letters: %w", err)
	}
	for _, row := range rows {
		if string(row[1]) == "t" { // a TRUNCATE: of every row
			for i := range of {
				of[i] = true
			}
		} else if i, known := places[string(row[0])]; known {
			of[i] = true
		}
	}
	return of, nil
}

// conclude writes the note of an answer.
func (c *comparison) conclude(t *table) {
	var notes []string
	add := func(when bool, format string, args ...any) {
		if when {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	a := &t.answer
	add(a.DeadLettered > 0, "%d of the rows that differ are in dead letters (courier.dead_letter)", a.DeadLettered)
	add(a.Unsettled > 0, "%d rows were changed too often to be compared", a.Unsettled)
	add(t.unsent[Missing], "inserts are not sent: missing rows are not counted")
	add(t.unsent[Different], "updates are not sent: different rows are not counted")
	add(t.unsent[Extra], "deletes are not sent: extra rows are not counted")
	add(t.keyless, "the table has no key: whole rows were counted")
	if t.keyless && a.Differences() > 0 && c.Repair != Nothing {
		add(true, "they can't be shipped again: %s", c.copyOnceMore(t))
	}
	a.Note = strings.Join(notes, "; ")
}
