package ship

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/render"
)

// Each change, by the results of two filters, as a subscription with both sends
// it; and what transaction 100 makes of a set added behind it.
func TestAdmit(t *testing.T) {
	t.Parallel()
	relation := &change.Relation{OID: 1, Schema: "shop", Name: "item", Identity: 'd', Columns: []change.Column{
		{Name: "id", Key: true}, {Name: "note"}}}
	all := render.Filter{Insert: true, Update: true, Delete: true}
	before, behind := change.Snapshot{Xmin: 50, Xmax: 50}, change.Snapshot{Xmin: 150, Xmax: 150}
	value := func(s string, same bool) change.Value {
		return change.Value{Kind: change.Text, Same: same, Data: []byte(s)}
	}
	key := func(s string) []change.Value { return []change.Value{value(s, false), {Kind: change.Null}} }
	row := func(s string) []change.Value { return []change.Value{value(s, false), value("x", true)} }
	const in, out = true, false
	filters := func(old1, new1, old2, new2 bool) []change.FilterResult {
		return []change.FilterResult{{Filter: 7, Old: old1, New: new1}, {Filter: 8, Old: old2, New: new2}}
	}
	both := []member{{set: "a", filter: 7, allows: all, added: before}, {set: "b", filter: 8, allows: all, added: before}}
	late := []member{both[0], {set: "b", filter: 8, allows: all, added: behind}}
	open := []member{both[0], {set: "b", allows: all, added: before}}
	inserts := []member{both[0], {set: "b", filter: 8, allows: render.Filter{Insert: true}, added: before}}

	tests := map[string]struct {
		members []member
		change  change.Change
		want    change.Op // 0: not sent
		old     string    // key of the row deleted
	}{
		"insert in":         {both, change.Change{Op: change.Insert, New: row("1"), Filters: filters(out, out, out, in)}, change.Insert, ""},
		"insert out":        {both, change.Change{Op: change.Insert, New: row("1"), Filters: filters(out, out, out, out)}, 0, ""},
		"delete in":         {both, change.Change{Op: change.Delete, Old: key("1"), Filters: filters(in, out, out, out)}, change.Delete, "1"},
		"delete out":        {both, change.Change{Op: change.Delete, Old: key("1"), Filters: filters(out, out, out, out)}, 0, ""},
		"upsert out":        {both, change.Change{Op: change.Upsert, New: row("1"), Filters: filters(out, out, out, out)}, 0, ""},
		"stays in":          {both, change.Change{Op: change.Update, New: row("1"), Filters: filters(in, in, out, out)}, change.Update, ""},
		"stays out":         {both, change.Change{Op: change.Update, New: row("1"), Filters: filters(out, out, out, out)}, 0, ""},
		"moves in":          {both, change.Change{Op: change.Update, New: row("1"), Filters: filters(out, in, out, out)}, change.Insert, ""},
		"moves out":         {both, change.Change{Op: change.Update, New: row("1"), Filters: filters(in, out, out, out)}, change.Delete, "1"},
		"from one to other": {both, change.Change{Op: change.Update, New: row("1"), Filters: filters(in, out, out, in)}, change.Update, ""},
		"in, new key":       {both, change.Change{Op: change.Update, Old: key("1"), New: row("2"), Filters: filters(out, in, out, out)}, change.Insert, ""},
		"out, new key":      {both, change.Change{Op: change.Update, Old: key("1"), New: row("2"), Filters: filters(in, out, out, out)}, change.Delete, "1"},
		"set added behind":  {late, change.Change{Op: change.Insert, New: row("1"), Filters: filters(out, out, out, in)}, 0, ""},
		"not known to it":   {late, change.Change{Op: change.Insert, New: row("1"), Filters: filters(out, in, out, out)[:1]}, change.Insert, ""},
		"a set without":     {open, change.Change{Op: change.Update, New: row("1"), Filters: filters(in, out, out, out)}, change.Update, ""},
		"of inserts only":   {inserts, change.Change{Op: change.Update, New: row("1"), Filters: filters(out, out, out, in)}, 0, ""},
		"no row filter":     {nil, change.Change{Op: change.Update, New: row("1")}, change.Update, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCatalog(nil)
			c.tables = map[uint32]*Table{1: {OID: 1, Filter: all, Added: before, members: test.members}}
			ch := test.change
			ch.Relation = relation
			sent, err := c.admit(&ch, 100)
			require.NoError(t, err)
			require.Equal(t, test.want != 0, sent)
			if !sent {
				return
			}
			require.Equal(t, test.want, ch.Op)
			switch ch.Op {
			case change.Delete:
				require.Nil(t, ch.New)
				require.Equal(t, test.old, string(ch.Old[0].Data))
				require.Equal(t, change.Null, ch.Old[1].Kind)
			case change.Insert:
				require.Nil(t, ch.Old)
				require.False(t, ch.New[1].Same && test.change.Op == change.Update)
			}
		})
	}

	c := newCatalog(nil)
	c.tables = map[uint32]*Table{1: {OID: 1, Schema: "shop", Name: "item", Filter: all, Added: before, members: both}}
	_, err := c.admit(&change.Change{Op: change.Insert, Relation: relation, New: row("1"), Filters: filters(in, in, in, in)[:1]}, 100)
	var unfiltered *unfilteredError
	require.ErrorAs(t, err, &unfiltered, "a filter that capture did not know")
	require.Equal(t, int32(8), unfiltered.filter)
	_, err = c.admit(&change.Change{Op: change.Update, Relation: relation, Filters: filters(out, in, out, out),
		New: []change.Value{value("1", false), {Kind: change.Unchanged}}}, 100)
	require.ErrorContains(t, err, "column note was not captured")
}
