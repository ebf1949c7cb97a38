package dblink

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoomIsMadeOnceOfALink(t *testing.T) {
	t.Parallel()
	l := &Link{}
	require.Empty(t, l.Room(roomFor-1))
	require.NotEmpty(t, l.Room(roomFor))
	require.Empty(t, l.Room(roomFor))
}
