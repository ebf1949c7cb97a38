package ship

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

func TestPassed(t *testing.T) {
	t.Parallel()
	for position, want := range map[string]bool{
		"100:100:":                       false, // (K, XID) = (0/20, 150) is beyond it
		"100:150:":                       false,
		"100:151:150":                    false,
		"100:151:":                       true,
		"100:110:|100:200:|0/10|300":     false, // in the interval, not reached
		"100:110:|100:200:|0/20|149":     false,
		"100:110:|100:200:|0/20|150":     true,
		"100:110:|100:200:|0/30|120":     true,
		"100:110:|100:200:150|0/30|120":  false, // in progress at its end
		"100:160:150|100:200:|0/10|120":  false, // left over from before it
		"100:160:150|100:200:|0/30|120":  true,
		"100:160:|100:200:|0/10|190":     true, // before the interval
		"4294967296:4294967300:":         true,
		"100:110:|100:150:|1/0|99999999": false,
	} {
		p, err := change.ParsePosition(position)
		require.NoError(t, err)
		require.Equal(t, want, passed(&p, place{0x20, 150}), position)
	}
}

func TestJSONTextRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var back string
		require.NoError(t, json.Unmarshal(appendJSON(nil, []byte(text)), &back))
		require.Equal(t, text, back)
	})
	// bytes of other encodings go through as they are
	require.Equal(t, []byte("\"\xe9\xff\""), appendJSON(nil, []byte("\xe9\xff")))
}

func text(value string) change.Value {
	return change.Value{Kind: change.Text, Data: []byte(value)}
}

// A row is the same row whatever the order of the columns and whatever else is in
// it; rows whose values run together are not.
func TestRowID(t *testing.T) {
	t.Parallel()
	a := &change.Relation{OID: 7, Identity: 'd', Columns: []change.Column{{Name: "a", Key: true}, {Name: "v"}, {Name: "b", Key: true}}}
	b := &change.Relation{OID: 7, Identity: 'd', Columns: []change.Column{{Name: "b", Key: true}, {Name: "a", Key: true}}}
	one, ok := rowID(a, []change.Value{text("x"), text("1"), text("yz")})
	require.True(t, ok)
	same, _ := rowID(b, []change.Value{text("yz"), text("x")})
	require.Equal(t, one, same)
	for _, other := range [][]change.Value{{text("xy"), text("1"), text("z")}, {text("yz"), text("1"), text("x")}} {
		id, _ := rowID(a, other)
		require.NotEqual(t, one, id)
	}
	b.OID = 8
	id, _ := rowID(b, []change.Value{text("yz"), text("x")})
	require.NotEqual(t, one, id)
	empty, _ := rowID(a, []change.Value{text(""), text("1"), text("yz")})
	null, _ := rowID(a, []change.Value{{Kind: change.Null}, text("1"), text("yz")})
	require.NotEqual(t, empty, null)

	_, ok = rowID(a, nil)
	require.False(t, ok)
	_, ok = rowID(&change.Relation{OID: 7, Columns: []change.Column{{Name: "a"}}}, []change.Value{text("x")})
	require.False(t, ok, "without a key")
}

// Which keys of letters a change touches.
func TestKeyIndexTouch(t *testing.T) {
	t.Parallel()
	r := &change.Relation{OID: 7, Identity: 'd', Columns: []change.Column{{Name: "id", Key: true}}}
	other := &change.Relation{OID: 8, Identity: 'd', Columns: []change.Column{{Name: "id", Key: true}}}
	row := func(id string) []change.Value { return []change.Value{text(id)} }
	var x keyIndex
	names := make(map[*letterKey]string)
	add := func(name string, id keyID, oid uint32, whole bool) {
		key := &letterKey{id: id, relation: oid, whole: whole}
		names[key] = name
		x.add(key)
	}
	touched := func(c change.Change) []string {
		var got []string
		x.touch(&c, func(key *letterKey) { got = append(got, names[key]) })
		return got
	}
	require.Empty(t, touched(change.Change{Op: change.Insert, Relation: r, New: row("1")}), "there are no letters")

	for _, id := range []string{"1", "2"} {
		key, _ := rowID(r, row(id))
		add(id, key, 7, false)
	}
	require.Equal(t, 2, x.size())
	require.Equal(t, []string{"1"}, touched(change.Change{Op: change.Insert, Relation: r, New: row("1")}))
	require.Equal(t, []string{"2", "1"}, touched(change.Change{Op: change.Update, Relation: r, Old: row("2"), New: row("1")}))
	require.Equal(t, []string{"2"}, touched(change.Change{Op: change.Delete, Relation: r, Old: row("2")}))
	require.Equal(t, []string{"1", "2"}, touched(change.Change{Op: change.Truncate, Truncated: []*change.Relation{other, r}}))
	require.Empty(t, touched(change.Change{Op: change.Insert, Relation: r, New: row("3")}))
	require.Empty(t, touched(change.Change{Op: change.Insert, Relation: other, New: row("1")}))
	require.Empty(t, touched(change.Change{Op: change.Event}))

	add("all", wholeID(7), 7, true)
	require.Equal(t, []string{"all"}, touched(change.Change{Op: change.Insert, Relation: r, New: row("3")}))
}

// What a letter says of a change is what is made of it again.
func TestLetterChangesComeBack(t *testing.T) {
	t.Parallel()
	r := &change.Relation{OID: 7, Schema: "s", Name: "t", Identity: 'd',
		Columns: []change.Column{{Name: "id", Key: true}, {Name: "v"}, {Name: "w"}, {Name: "toasted"}}}
	same := text("as it was")
	same.Same = true
	unchanged := change.Value{Kind: change.Unchanged}
	null := change.Value{Kind: change.Null}
	table := &sourceTable{oid: 7, columns: []string{"id", "v", "w", "toasted"}, keys: map[string]bool{"id": true},
		shapes: make(map[string]*change.Relation)}
	for name, c := range map[string]change.Change{
		"insert":    {Op: change.Insert, New: []change.Value{text("1"), null, text("w"), text("t")}},
		"upsert":    {Op: change.Upsert, New: []change.Value{text("1"), text(`"`), text(""), text("t")}},
		"update":    {Op: change.Update, New: []change.Value{text("1"), text("new"), same, unchanged}},
		"key moved": {Op: change.Update, Old: []change.Value{text("1"), null, null, null}, New: []change.Value{text("2"), null, same, unchanged}},
		"delete":    {Op: change.Delete, Old: []change.Value{text("1"), null, null, null}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Relation = r
			var content content
			content.keys = make(map[keyID]contentKey)
			content.row(&c, nil)
			back, err := table.change(c.Op, tableName{"s", "t"}, parseElement(t, content.json()))
			require.NoError(t, err)
			require.Equal(t, c.Op, back.Op)
			// by name: columns that the letter does not have were unchanged
			require.Equal(t, byName(r, c.New, change.Unchanged), byName(back.Relation, back.New, change.Unchanged))
			require.Equal(t, byName(r, c.Old, change.Null), byName(back.Relation, back.Old, change.Null))
		})
	}
}

func byName(r *change.Relation, row []change.Value, without change.Kind) map[string]string {
	values := make(map[string]string)
	for i, v := range row {
		if v.Kind != without {
			values[r.Columns[i].Name] = string(v.Kind) + string(v.Data)
			if v.Same {
				values[r.Columns[i].Name] += " (same)"
			}
		}
	}
	return values
}

// parseElement does what readLetter has the database do.
func parseElement(t *testing.T, changes []byte) *letterElement {
	t.Helper()
	var elements []map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(changes, &elements))
	require.Len(t, elements, 1)
	e := &letterElement{op: "x", schema: "s", table: "t"}
	for _, part := range []string{"key", "old", "new", "same"} {
		if elements[0][part] == nil {
			continue
		}
		var fields map[string]*string
		require.NoError(t, json.Unmarshal(elements[0][part], &fields))
		for column, value := range fields {
			field := letterField{part: part, column: column}
			if value != nil {
				field.value = []byte(*value)
			}
			e.fields = append(e.fields, field)
		}
	}
	return e
}
