package dblink

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A string of statements that was handed over in parts is the same on the node, wherever
// its characters are, and it is sent once.
func TestKeep(t *testing.T) {
	_, _, l := open(t)
	for _, character := range []string{"x", "ä", "€", "€ä ", "x€"} {
		text := strings.Repeat(character, 3*partBytes/len(character)+1)
		sql := []byte("SELECT pg_catalog.md5('" + text + "')")
		require.NoError(t, l.Keep(t.Context(), []byte("SELECT 'another'"))) // is dropped
		require.NoError(t, l.Keep(t.Context(), sql))
		require.False(t, l.Busy())
		require.NoError(t, l.SendKept(t.Context()))
		require.True(t, l.Busy())
		outcome, err := l.Wait(t.Context())
		require.NoError(t, err)
		require.Nil(t, outcome.Err)
		require.Equal(t, fmt.Sprintf("%x", md5.Sum([]byte(text))), outcome.Value, "%q", character)
	}
	require.ErrorContains(t, l.SendKept(t.Context()), "there is no statement to send")
}

// Parts are as large as they may be, and no character is in two of them.
func TestPartEnd(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"abc", "ä", "a€", "€€€€\n"} {
		text := []byte("'" + strings.Repeat(unit, 2*partBytes/len(unit)) + "'")
		var all []byte
		for at := 0; at < len(text); {
			end := partEnd(text, at)
			require.Greater(t, end, at)
			require.True(t, utf8.Valid(text[at:end]), "%q from %d to %d", unit, at, end)
			if unit != "ä" {
				require.LessOrEqual(t, end-at, partBytes)
				require.True(t, end == len(text) || end-at > partBytes-16)
			}
			all = append(all, text[at:end]...)
			at = end
		}
		require.True(t, bytes.Equal(text, all))
	}
}
