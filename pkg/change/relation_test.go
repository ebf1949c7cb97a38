package change

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRelationKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		identity        byte
		keys            []bool
		want            []int
		hasKey, wholeID bool
	}{
		{"primary key", 'd', []bool{false, true, true}, []int{1, 2}, true, false},
		{"full with a primary key", 'f', []bool{true, false}, []int{0}, true, false},
		{"full without one", 'f', []bool{true, true}, []int{0, 1}, false, true},
		{"every column is the key", 'd', []bool{true, true}, []int{0, 1}, true, false},
		{"no key", 'd', []bool{false, false}, nil, false, false},
		{"nothing", 'n', []bool{false}, nil, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := &Relation{Identity: test.identity}
			for _, key := range test.keys {
				r.Columns = append(r.Columns, Column{Key: key})
			}
			require.Equal(t, test.want, r.Keys())
			require.Equal(t, test.hasKey, r.HasKey())
			require.Equal(t, test.wholeID, r.WholeRow())
		})
	}
}
