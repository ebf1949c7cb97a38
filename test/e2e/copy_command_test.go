package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// command is a command of the program for the source's database.
func (r *replica) command(name string, args ...string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), courierProgram(r.t), append([]string{name, "--database", r.source.DSN(appDatabase)}, args...)...)
	cmd.Env = withoutPG()
	return cmd
}

// copyCommand runs `courier copy` to its end; what it prints and its exit code.
func (r *replica) copyCommand(args ...string) (string, int) {
	r.t.Helper()
	cmd := r.command("copy", args...)
	output, err := cmd.CombinedOutput()
	code := cmd.ProcessState.ExitCode()
	require.True(r.t, err == nil || code > 0, "%v: %s", err, output)
	return string(output), code
}

// `courier copy` copies what nobody else does, and watches a sidecar that does it;
// it tells why a copy does not go on.
func TestCopyCommand(t *testing.T) {
	r := startReplica(t)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, name text)")
	r.onSource("INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")
	r.onTarget("INSERT INTO item VALUES (1, 'here')")
	r.add("default", "item")
	r.subscribe("{default}", true)

	output, code := r.copyCommand(subscription)
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "the table on the node already holds rows")
	require.Contains(t, output, "hint: Empty table public.item on node eu")

	output, code = r.copyCommand(subscription, "item")
	require.Equal(t, 0, code, output)
	require.Contains(t, output, "public.item: copied")
	require.Contains(t, output, "20000 rows")
	r.requireEqual("item")

	r.onTarget("DELETE FROM item WHERE id % 2 = 0")
	courier := r.startSidecar()
	eventually(t, "the sidecar to ship", func() bool { return strings.Contains(courier.log.String(), "subscription is streaming") })
	output, code = r.copyCommand("--on-existing", "truncate", subscription, "public.item")
	require.Equal(t, 0, code, output)
	r.requireEqual("item")
	courier.stop()

	output, code = r.copyCommand("nosuch")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, `subscription "nosuch" does not exist`)
	output, code = r.copyCommand(subscription, "nosuch")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, `table "nosuch" does not exist`)
	output, code = r.copyCommand()
	require.Equal(t, 2, code, output)
}
