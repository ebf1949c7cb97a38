package main

import (
	"context"
	"fmt"
)

// batchRows is the size of the transactions of the update backlog.
const batchRows = 1000

// workload is a backlog: committed on the source while shipping is stopped.
type workload struct {
	Name  string
	Title string
	// goal is how many times as fast as built-in pg_courier is to be.
	goal float64
	// rows of the backlog, for -rows n.
	rows func(n int) int
	// commit is run on the source.
	commit func(n int) string
	// arrived asks the target for the last row.
	arrived func(n int) string
}

// workloads run in this order on one pair; each builds on the one before.
var workloads = []workload{
	{
		Name: "W1", Title: "insert, one transaction", goal: 1.5,
		rows:   func(n int) int { return n },
		commit: func(n int) string { return "INSERT INTO acc " + fmt.Sprintf(rowsOf, 1, n) },
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", n)
		},
	},
	{
		Name: "W2", Title: fmt.Sprintf("update, transactions of %d rows", batchRows), goal: 1.5,
		rows: func(n int) int { return n },
		commit: func(n int) string {
			return fmt.Sprintf(`DO $$ BEGIN
				FOR i IN 0 .. %d LOOP
					UPDATE acc SET abalance = abalance + 1 WHERE aid BETWEEN i * %d + 1 AND least((i + 1) * %[2]d, %d);
					COMMIT;
				END LOOP; END $$`, (n-1)/batchRows, batchRows, n)
		},
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d AND abalance = 1)", n)
		},
	},
	{
		Name: "W3", Title: "insert, transactions of one row", goal: 2.5,
		rows: func(n int) int { return n / 10 },
		commit: func(n int) string {
			return fmt.Sprintf(`DO $$ BEGIN
				FOR i IN %d .. %d LOOP
					INSERT INTO acc VALUES (i, i %% 100, 0, 'customer account number ' || i, clock_timestamp(), i * 1.07);
					COMMIT;
				END LOOP; END $$`, n+1, n+n/10)
		},
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", n+n/10)
		},
	},
}

// make commits the backlog and writes both servers' buffers out, so that no
// system pays for what came before.
func (w *workload) make(ctx context.Context, p *pair, n int) error {
	for _, sql := range []string{
		"SET synchronous_commit = off", // making it is not measured
		w.commit(n),
		"RESET synchronous_commit",
	} {
		if err := p.source.exec(ctx, sql); err != nil {
			return fmt.Errorf("make backlog %s: %w", w.Name, err)
		}
	}
	return p.both(ctx, "CHECKPOINT")
}
