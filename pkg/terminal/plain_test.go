package terminal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b c", Plain("a\nb\tc"))
	require.Equal(t, "\uFFFD[2J é 世", Plain("\x1b[2J é 世"))
	require.Equal(t, "\uFFFDabc\uFFFD", Plain("\u202Eabc\u009b"))
}
