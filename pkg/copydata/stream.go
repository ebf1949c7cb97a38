package copydata

import (
	"context"
	"fmt"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// streams reports whether a job's rows can go over a stream, by COPY, which costs the
// node half of what INSERT does. COPY writes rows or fails: it leaves none alone that
// the node has, is refused where row-level security acts, and does not know rules.
func (l *lane) streams(j *Job) bool {
	return j.rows == nil && j.merge == nil && len(l.insert.Columns) > 0 && !l.refused[j.table.OID] && !j.table.Target.RowSecurity()
}

// stream does a job over the lane's stream, which it opens if need be. It returns
// false, and has written nothing, if that can't be: a row is too large for it, or the
// node has one of the rows.
func (l *lane) stream(ctx context.Context) (done bool, err error) {
	j := l.job
	if l.copy == nil {
		if l.copy, err = l.link.OpenStream(ctx, l.copier.config.Key); err != nil {
			return false, err
		}
	}
	if _, err = l.copy.Run(ctx, l.prologue()+j.table.Target.Copy(&l.insert)); err != nil {
		return l.refuse(ctx, err)
	}
	sent, err := l.copy.Copy(ctx, &dblink.Rows{Query: l.query, First: l.next, Last: l.behind, Largest: largestRow})
	if err != nil {
		return false, err
	}
	taken, err := l.copy.End(ctx)
	switch {
	case err != nil:
		return l.refuse(ctx, err)
	case sent.Large:
		return l.refuse(ctx, nil)
	case taken != sent.Rows:
		return false, swallowed(sent.Rows, taken)
	}
	j.count, j.sent = sent.Rows, sent.Bytes
	if _, err = l.copy.Run(ctx, l.noteChunk()+"COMMIT"); err != nil {
		return false, err
	}
	return true, l.copier.pace.wait(ctx, l.session, sent.Bytes)
}

// refuse ends the transaction, and leaves the table to INSERT if that may do better:
// err is nil, or of a kind that INSERT meets otherwise.
func (l *lane) refuse(ctx context.Context, err error) (bool, error) {
	state := session.SQLState(err)
	if err != nil && state != "23505" && state != "0A000" && state != "42809" {
		return false, err
	}
	if _, ended := l.copy.Run(ctx, "ROLLBACK"); ended != nil {
		return false, ended
	}
	if err == nil || state != "23505" { // another chunk has other rows
		l.refused[l.job.table.OID] = true
	}
	j := l.job
	l.take(j)
	l.inserts = true
	return false, nil
}

func swallowed(sent, taken int64) error {
	return &session.Error{SQLState: "55000", Message: fmt.Sprintf("of %d rows that were sent the node has written %d", sent, taken),
		Hint: "A trigger or a rule of the table on the node keeps rows from it: disable it there."}
}
