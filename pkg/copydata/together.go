package copydata

import (
	"context"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/dblink"
)

const (
	// mostTogether is the largest table whose rows are one statement where it is
	// copied in one transaction, in bytes as it is on disk.
	mostTogether = 1 << 20
	// mostUnpacked bounds that statement: values may be compressed on disk.
	mostUnpacked = 32 << 20
)

// together sends the rows of all of a table's jobs, in a transaction that is open. A
// foreign key is looked at when a statement ends, so rows that refer to each other may
// be in any chunk, and in any partition. It returns false, and has written nothing, if
// they are too much for that.
func (l *lane) together(ctx context.Context, jobs []*Job) (bool, error) {
	table := jobs[0].table
	begin := "SAVEPOINT courier_together"
	if table.Target.RowSecurity() {
		begin = "SET LOCAL row_security = on; " + begin
	}
	if err := l.link.Exec(ctx, begin); err != nil {
		return false, err
	}
	l.take(jobs[0])
	l.begun = true
	leaves := make([]string, len(table.leaves))
	for i, each := range table.leaves {
		leaves[i] = strconv.FormatUint(uint64(each.OID), 10)
	}
	query := table.queryOf(table.From(), l.insert.Columns, " AND tableoid = ANY ('{"+strings.Join(leaves, ",")+"}'::pg_catalog.oid[])")
	sent, err := l.link.SendRows(ctx, &dblink.Rows{Query: query, First: "(0,0)", Last: "(4294967295,0)",
		Head: l.insert.Head, Joints: array(l.insert.Joints), Most: mostUnpacked, Largest: largestRow})
	if err != nil {
		return false, err
	}
	var outcome dblink.Outcome
	if l.link.Busy() {
		if outcome, err = l.link.Wait(ctx); err != nil {
			return false, err
		}
	}
	if sent.Next != "" || sent.Sizes != nil {
		return false, l.link.Exec(ctx, "ROLLBACK TO SAVEPOINT courier_together")
	}
	if outcome.Err != nil {
		return false, outcome.Err
	}
	l.checked = sent.Rows
	if err = l.check(outcome); err != nil {
		return false, err
	}
	jobs[0].count, jobs[0].sent = sent.Rows, sent.Bytes
	for _, j := range jobs {
		table.finish(j)
	}
	return true, l.copier.pace.wait(ctx, l.session, sent.Bytes)
}
