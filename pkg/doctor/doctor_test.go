package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthy(t *testing.T) {
	r := start(t)
	report := r.run()
	t.Log("\n" + report.Text(true, false))
	require.Equal(t, Healthy, report.ExitCode(), report.Text(false, false))
}
