package compare

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// history is a row of the source over time, and what a node that applies its
// changes in order, several at a time, has of it.
type history struct {
	states  []*row // after each change; nil: there is no such row
	applied int    // of them, by the node
	writes  int    // of the node, each of which makes a version of its own
	node    *row
}

func (h *history) change(t *rapid.T) {
	value := rapid.IntRange(0, 2).Draw(t, "value") // 0: deleted
	n := strconv.Itoa(len(h.states))
	if value == 0 {
		h.states = append(h.states, nil)
		return
	}
	// the same values come again, in other versions
	h.states = append(h.states, &row{key: []string{"1"}, version: "v" + n, hash: strconv.Itoa(value), count: 1})
}

func (h *history) apply(until int) {
	if until == h.applied {
		return
	}
	h.applied, h.node = until, nil
	h.writes++
	if last := h.states[until]; last != nil {
		h.node = &row{key: last.key, version: "w" + strconv.Itoa(h.writes), hash: last.hash, count: 1}
	}
}

// source reads, then the node catches up, at least, and is read.
func (h *history) look(t *rapid.T) (s, n *row) {
	h.wander(t)
	now := len(h.states) - 1
	s = h.states[now]
	h.wander(t)
	h.apply(rapid.IntRange(max(now, h.applied), len(h.states)-1).Draw(t, "applied"))
	return s, h.node
}

// wander lets both sides go on.
func (h *history) wander(t *rapid.T) {
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		h.change(t)
	}
	h.apply(rapid.IntRange(h.applied, len(h.states)-1).Draw(t, "applied"))
}

// What a node has that does nothing but apply changes is never reported.
func TestNoFalseReport(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &history{states: []*row{nil}}
		var s, n *row
		for round := range 5 {
			sAgain, nAgain := h.look(t)
			v := decide(round > 0, s, n, sAgain, nAgain)
			require.Empty(t, v.kind, "round %d of %v", round, h.states)
			if v.equal {
				return
			}
			s, n = sAgain, nAgain
		}
	})
}

// A difference that stays is reported, by what it is.
func TestLastingDifference(t *testing.T) {
	t.Parallel()
	one := &row{key: []string{"1"}, version: "v1", hash: "1", count: 1}
	other := &row{key: []string{"1"}, version: "w1", hash: "2", count: 1}
	many := &row{key: []string{"1"}, version: "w1", hash: "1 1", count: 2}
	for name, c := range map[string]struct {
		source, node *row
		want         Kind
		count        int64
	}{
		"missing":   {one, nil, Missing, 1},
		"extra":     {nil, other, Extra, 1},
		"different": {one, other, Different, 1},
		"twice":     {one, many, Extra, 1},
		"once":      {many, other, Missing, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, verdict{}, decide(false, nil, nil, c.source, c.node), "one look is not enough")
			v := decide(true, c.source, c.node, c.source, c.node)
			require.Equal(t, c.want, v.kind)
			require.Equal(t, c.count, v.count)
			require.Equal(t, []string{"1"}, v.key)
		})
	}
}

// Sums are counted modulo 2^64, whatever the sign, and in any order.
func TestSums(t *testing.T) {
	t.Parallel()
	all, err := parseSums([][]byte{[]byte("3"), []byte("-27670116110564327421"), []byte("9223372036854775807")})
	require.NoError(t, err)
	one, err := parseSums([][]byte{[]byte("1"), []byte("-9223372036854775807"), []byte("9223372036854775807")})
	require.NoError(t, err)
	var added sums
	for range 3 {
		added.add(one)
	}
	require.Equal(t, all.hashes[0], added.hashes[0])
	require.Equal(t, uint64(9223372036854775807), all.hashes[1])
	none, err := parseSums([][]byte{[]byte("0"), nil, nil})
	require.NoError(t, err)
	require.Equal(t, sums{}, none)
	_, err = parseSums([][]byte{[]byte("1"), []byte("x"), nil})
	require.Error(t, err)
}
