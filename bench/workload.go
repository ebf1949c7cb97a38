package main

import (
	"context"
	"fmt"
	"slices"
)

const (
	batchRows = 1000 // of the transactions of most backlogs
	hotRows   = 1000
)

// workload is a backlog: committed on the source while shipping is stopped.
type workload struct {
	name   string
	title  string
	tables []*table
	// rows are the changes of the backlog, for -rows n.
	rows func(n int) int
	// commit is run on the source.
	commit func(n int) string
	// arrived asks the target for the last change.
	arrived func(n int) string
}

// workloads run in this order on one pair; some build on those before.
var workloads = []*workload{
	{
		name: "insert", title: "inserts, one transaction", tables: []*table{accounts},
		rows:   func(n int) int { return n },
		commit: func(n int) string { return insertAccounts("acc", 1, n) },
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", n)
		},
	},
	{
		name: "update", title: fmt.Sprintf("updates of as many rows, transactions of %d", batchRows), tables: []*table{accounts},
		rows: func(n int) int { return n },
		commit: func(n int) string {
			return loop(0, (n-1)/batchRows, fmt.Sprintf(
				"UPDATE acc SET abalance = abalance + 1 WHERE aid BETWEEN i * %d + 1 AND least((i + 1) * %[1]d, %d)", batchRows, n))
		},
		arrived: func(n int) string { return "SELECT abalance = 1 FROM acc WHERE aid = " + fmt.Sprint(n) },
	},
	{
		name: "single", title: "inserts, transactions of one row", tables: []*table{accounts},
		rows: func(n int) int { return n / 5 },
		commit: func(n int) string {
			return loop(n+1, n+n/5, `INSERT INTO acc VALUES (i, i % 100, 0, 'customer account number ' || i, clock_timestamp(), i * 1.07)`)
		},
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM acc WHERE aid = %d)", n+n/5)
		},
	},
	{
		name: "hot", title: fmt.Sprintf("updates of %d hot rows, each transaction all of them", hotRows), tables: []*table{accounts},
		rows: func(n int) int { return n / hotRows * hotRows },
		commit: func(n int) string {
			return loop(1, n/hotRows, fmt.Sprintf("UPDATE acc SET bid = i WHERE aid <= %d", hotRows))
		},
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT bid = %d FROM acc WHERE aid = %d", n/hotRows, hotRows)
		},
	},
	{
		name: "keys", title: "customers, orders and items with foreign keys: inserts, updates and deletes, transactions of ten",
		tables: []*table{customers, orders, items},
		rows:   func(n int) int { return n / 50 * 10 },
		commit: func(n int) string {
			return loop(1, n/50, `INSERT INTO customer VALUES (i, 'customer ' || i, date '2026-01-01' + i % 365);
				INSERT INTO orders SELECT i * 2 + k, i, 'new', now(), i * 1.5 FROM generate_series(0, 1) AS k;
				INSERT INTO item SELECT i * 5 + k, i * 2 + k % 2, 'article ' || k, k, k * 9.99 FROM generate_series(0, 4) AS k;
				UPDATE orders SET state = 'paid' WHERE oid = i * 2;
				DELETE FROM item WHERE iid = i * 5`)
		},
		arrived: func(n int) string { return fmt.Sprintf("SELECT state = 'paid' FROM orders WHERE oid = %d", n/50*2) },
	},
	{
		name: "wide", title: "inserts of rows of 2 kB, transactions of 100", tables: []*table{wide},
		rows: func(n int) int { return n / 10 },
		commit: func(n int) string {
			return loop(0, (n/10-1)/100, insertWide("wide", "i * 100 + 1", fmt.Sprintf("least((i + 1) * 100, %d)", n/10)))
		},
		arrived: func(n int) string { return fmt.Sprintf("SELECT EXISTS (SELECT FROM wide WHERE id = %d)", n/10) },
	},
	{
		name: "types", title: fmt.Sprintf("inserts of twenty columns of many types, transactions of %d", batchRows), tables: []*table{mixed},
		rows: func(n int) int { return n / 5 },
		commit: func(n int) string {
			return loop(0, (n/5-1)/batchRows, insertMixed(fmt.Sprintf("i * %d + 1", batchRows), fmt.Sprintf("least((i + 1) * %d, %d)", batchRows, n/5)))
		},
		arrived: func(n int) string {
			return fmt.Sprintf("SELECT EXISTS (SELECT FROM mixed WHERE id = %d)", n/5)
		},
	},
}

// loop commits statements once for each i from first to last.
func loop(first, last int, statements string) string {
	return fmt.Sprintf("DO $$ BEGIN FOR i IN %d .. %d LOOP %s; COMMIT; END LOOP; END $$", first, last, statements)
}

// tablesOf are the tables of workloads, each once, referenced ones first.
func tablesOf(loads []*workload) []*table {
	var all []*table
	for _, w := range loads {
		for _, t := range w.tables {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}

// make commits the backlog; how long that takes is not measured, but for systems
// that ship meanwhile.
func (w *workload) make(ctx context.Context, s *server, n int) error {
	if err := s.execAll(ctx, "SET synchronous_commit = off", w.commit(n), "RESET synchronous_commit"); err != nil {
		return fmt.Errorf("make backlog %s: %w", w.name, err)
	}
	return nil
}
