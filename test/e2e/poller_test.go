package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// pollEvery is the pause between two polls of the target.
const pollEvery = 30 * time.Millisecond

// poller looks at the target's pgbench tables again and again, each time in one
// snapshot. Every transaction adds the same number to one account, one teller,
// one branch and the history, so a target that shows only whole transactions
// has four equal sums at every moment.
type poller struct {
	r      *replica
	cancel context.CancelFunc
	done   chan struct{}

	// valid once done is closed
	polls    int
	distinct int // polls that saw another state than the one before
	err      error
}

const balances = `SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts),
	(SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches),
	(SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers),
	(SELECT coalesce(sum(delta), 0) FROM pgbench_history),
	(SELECT count(*) FROM pgbench_history)`

// startPoller starts polling. With restarts, the target may go away meanwhile.
func (r *replica) startPoller(restarts bool) *poller {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &poller{r: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for ctx.Err() == nil && p.err == nil {
			err := p.session(ctx)
			if err != nil && !restarts && ctx.Err() == nil {
				p.err = err
			}
			wait(ctx, pollEvery)
		}
	}()
	r.t.Cleanup(func() { p.cancel(); <-p.done })
	return p
}

// session polls on one connection until that fails.
func (p *poller) session(ctx context.Context) error {
	conn, err := p.r.target.Open(ctx, appDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	last := int64(-1)
	for {
		var accounts, branches, tellers, history, rows int64
		err := conn.QueryRow(ctx, balances, pgx.QueryExecModeExec).Scan(&accounts, &branches, &tellers, &history, &rows)
		if err != nil {
			return fmt.Errorf("poll the target: %w", err)
		}
		p.polls++
		if rows != last {
			p.distinct++
		}
		last = rows
		if accounts != branches || branches != tellers || tellers != history {
			p.err = fmt.Errorf("poll %d of the target saw part of a transaction: sums of accounts %d, branches %d, tellers %d, history %d (%d rows)",
				p.polls, accounts, branches, tellers, history, rows)
			return nil
		}
		if !wait(ctx, pollEvery) {
			return nil
		}
	}
}

// finish stops polling and requires that every poll saw whole transactions, and
// that the polls saw enough different states for that to mean something.
func (p *poller) finish() {
	p.r.t.Helper()
	p.cancel()
	<-p.done
	require.NoError(p.r.t, p.err)
	p.r.t.Logf("%d polls, %d of them with a new state", p.polls, p.distinct)
	require.Greater(p.r.t, p.distinct, 3, "the polls saw too few states")
}

// requireBenchEqual compares pgbench's tables, which must have been written to.
func (r *replica) requireBenchEqual() {
	r.t.Helper()
	require.NotEqual(r.t, "0", r.sourceValue("SELECT count(*) FROM pgbench_history"), "nothing was tested")
	r.requireEqual(benchTables...)
	r.t.Logf("%s transactions, all equal", r.sourceValue("SELECT count(*) FROM pgbench_history"))
}

// wait pauses; false means that ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
