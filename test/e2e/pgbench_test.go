package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// benchTables are pgbench's; the last one has no key.
var benchTables = []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"}

// benchScale is pgbench's: 100,000 accounts each.
const benchScale = 1

// startBench is startReplica with pgbench's tables, filled on the source only,
// subscribed with the rows there are.
func startBench(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.pgbench(r.source, "-i", "-q", "-s", strconv.Itoa(benchScale))
	r.pgbench(r.target, "-i", "-q", "-I", "tp")
	r.add("default", benchTables[:3]...)
	r.addKeyless(benchTables[3])
	r.subscribe("{default,log}", true)
	return r
}

// pgbench runs pgbench to its end.
func (r *replica) pgbench(cluster *pgtest.Cluster, args ...string) {
	r.t.Helper()
	out, err := pgbenchCommand(context.Background(), pgbenchProgram(r.t), cluster, args...).CombinedOutput()
	require.NoError(r.t, err, "pgbench %v:\n%s", args, out)
}

func pgbenchProgram(t *testing.T) string {
	t.Helper()
	inst, err := pgtest.FindInstallation()
	require.NoError(t, err)
	return inst.Program("pgbench")
}

func pgbenchCommand(ctx context.Context, program string, cluster *pgtest.Cluster, args ...string) *exec.Cmd {
	args = append(args, "-h", "127.0.0.1", "-p", fmt.Sprint(cluster.Port), "-U", pgtest.Superuser, appDatabase)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = withoutPG()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// load is pgbench under way on the source.
type load struct {
	r        *replica
	cancel   context.CancelFunc
	done     chan struct{}
	runs     atomic.Int64 // of pgbench, more than one after the source was restarted
	err      error        // of the last run; valid once done is closed
	expected bool         // runs may fail: the source is restarted
}

// startLoad runs pgbench with the arguments on the source for a time. With
// restarts, the source may go away: pgbench is then started again until the
// time is over.
func (r *replica) startLoad(duration time.Duration, restarts bool, args ...string) *load {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{r: r, cancel: cancel, done: make(chan struct{}), expected: restarts}
	program, end := pgbenchProgram(r.t), time.Now().Add(duration)
	go func() {
		defer close(l.done)
		for {
			seconds := max(1, int(time.Until(end).Round(time.Second)/time.Second))
			cmd := pgbenchCommand(ctx, program, r.source, append([]string{"-n", "-T", strconv.Itoa(seconds)}, args...)...)
			out, err := cmd.CombinedOutput()
			l.runs.Add(1)
			l.err = nil
			if err != nil {
				l.err = fmt.Errorf("run pgbench: %w\n%s", err, out)
			}
			if !restarts || ctx.Err() != nil || time.Until(end) < time.Second {
				return
			}
			// The server may not be back yet; pgbench fails at once then.
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	r.t.Cleanup(l.abort)
	return l
}

// wait waits for the load's own end.
func (l *load) wait() {
	l.r.t.Helper()
	<-l.done
	if !l.expected {
		require.NoError(l.r.t, l.err)
	}
}

// ended says whether the load is over.
func (l *load) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// abort kills pgbench and waits for it.
func (l *load) abort() {
	l.cancel()
	<-l.done
}
