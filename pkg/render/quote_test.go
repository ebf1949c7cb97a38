package render

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// parseLiteral reads a string literal as PostgreSQL does with
// standard_conforming_strings on.
func parseLiteral(s string) (string, error) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", errors.New("not a literal")
	}
	var out []byte
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\'' {
			if i++; i == len(s)-1 || s[i] != '\'' {
				return "", errors.New("the literal ends inside")
			}
		}
		out = append(out, s[i])
	}
	return string(out), nil
}

// parseArray reads a one-dimensional array literal by the rules of array_in.
func parseArray(s string) (values []change.Value, err error) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return nil, errors.New("not an array")
	}
	s = s[1 : len(s)-1]
	for i := 0; i <= len(s); i++ { // one element a turn, ended by a comma or the end
		var element []byte
		quoted := i < len(s) && s[i] == '"'
		if quoted {
			for i++; ; i++ {
				if i == len(s) {
					return nil, errors.New("a quote is open")
				}
				if s[i] == '"' {
					break
				}
				if s[i] == '\\' {
					i++
				}
				element = append(element, s[i])
			}
			if i++; i < len(s) && s[i] != ',' {
				return nil, errors.New("junk after a quote")
			}
		} else {
			for ; i < len(s) && s[i] != ','; i++ {
				switch s[i] {
				case '"', '{', '}', '\\', ' ', '\t', '\n', '\v', '\f', '\r':
					return nil, errors.New("a special character is not quoted")
				}
				element = append(element, s[i])
			}
			if len(element) == 0 {
				return nil, errors.New("an element is empty")
			}
			if up := string(element); len(up) == 4 && (up[0]|32) == 'n' && (up[1]|32) == 'u' && (up[2]|32) == 'l' && (up[3]|32) == 'l' {
				values = append(values, change.Value{Kind: change.Null})
				continue
			}
		}
		values = append(values, change.Value{Kind: change.Text, Data: element})
	}
	return values, nil
}

func TestArrayLiteralRoundTrip(t *testing.T) {
	t.Parallel()
	element := rapid.OneOf(
		rapid.SampledFrom([]string{"", "null", "NULL", "nUlL", "'", "''", `"`, `\`, `\x00ff`, "{}", "a,b", " x", "x\n", "é€😀"}),
		rapid.String(),
		rapid.StringMatching(`[a-zA-Z0-9'"\\{}, \t\n\v\f\r]{0,12}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		var want []change.Value
		literal := []byte("'{")
		for i := range rapid.IntRange(1, 8).Draw(t, "elements") {
			v := change.Value{Kind: change.Null}
			if rapid.IntRange(0, 4).Draw(t, "null") > 0 {
				v = change.Value{Kind: change.Text, Data: []byte(element.Draw(t, "element"))}
			}
			want = append(want, v)
			if i > 0 {
				literal = append(literal, ',')
			}
			literal = appendElement(literal, &v)
		}
		literal = append(literal, "}'"...)
		array, err := parseLiteral(string(literal))
		require.NoError(t, err, "%s", literal)
		got, err := parseArray(array)
		require.NoError(t, err, "%s", literal)
		require.Len(t, got, len(want), "%s", literal)
		for i := range want {
			require.Equal(t, want[i].Kind, got[i].Kind, "%s", literal)
			require.Equal(t, string(want[i].Data), string(got[i].Data), "%s", literal)
		}
	})
}

func TestLiteralRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.StringMatching(`[a-z'"\\é]{0,12}`).Draw(t, "text")
		got, err := parseLiteral(string(appendLiteral(nil, want)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestIdent(t *testing.T) {
	t.Parallel()
	require.Equal(t, `"a ""b"".c'é"."T"`, string(appendName(nil, `a "b".c'é`, "T")))
}
