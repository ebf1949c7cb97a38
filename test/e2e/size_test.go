package e2e

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// numberOf is an environment variable, or what holds without it.
func numberOf(t *testing.T, variable string, standard int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, variable)
	require.Positive(t, n, variable)
	return n
}

// loadTime is how long a test under load runs.
func loadTime(t *testing.T) time.Duration {
	t.Helper()
	return time.Duration(numberOf(t, "COURIER_TEST_SECONDS", 8)) * time.Second
}
