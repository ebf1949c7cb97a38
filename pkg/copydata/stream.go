package copydata

import (
	"context"
	"fmt"
	"slices"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// streams reports whether a job's rows can go over a stream, by COPY, which costs the
// node half of what INSERT does. COPY writes rows or fails: it leaves none alone that
// the node has, is refused where row-level security acts, and does not know rules.
func (l *lane) streams(j *Job) bool {
	return !j.inserts && j.rows == nil && j.merge == nil && len(l.insert.Columns) > 0 && !l.refused[j.table.OID] && !j.table.Target.RowSecurity()
}

// stage is how far a job over a stream is: what was sent last, and is waited for next.
type stage int

const (
	untouched stage = iota
	beginning       // the transaction and the COPY
	copying         // rows, which nothing is heard of until the end
	ended           // the end of the rows
)

// stream takes a step of a job over the lane's stream, which it opens if need be. When
// all rows are sent the lane is free for the next job. While the node works on what was
// sent another lane may take a step. If the job can't be done so, because a row is too
// large or the node has one of the rows, it is begun anew with INSERT, and nothing was
// written.
func (l *lane) stream(ctx context.Context) (err error) {
	switch l.stage {
	case untouched:
		if l.copy == nil {
			l.copy, l.spare = l.spare, nil
		}
		if l.copy == nil {
			if l.copy, err = l.link.OpenStream(ctx, l.copier.config.Key, l.tail != nil); err != nil {
				return err
			}
		}
		l.stage = beginning
		return l.copy.Send(ctx, l.prologue()+l.job.table.Target.Copy(&l.insert))
	case beginning:
		if _, err = l.copy.Take(ctx); err != nil {
			return l.refuse(ctx, err)
		}
		l.stage = copying
		return nil
	case copying:
		return l.copyRows(ctx)
	}
	if err = l.conclude(ctx); err != nil {
		return err
	}
	l.tail = &tail{stream: l.copy, job: l.job, check: l.job.table.Target.AfterCopy(&l.insert)}
	l.job, l.copy, l.spare = nil, l.spare, nil
	if l.copier.config.Rate > 0 {
		return l.conclude(ctx) // there is no hurry, and a transaction is not to wait for the next rows
	}
	return nil
}

// shareBytes is how much is read for a lane at once where one session serves several:
// little more than a connection's buffers hold, lest a lane's node has nothing to do
// while others are served.
const shareBytes = 256 << 10

// full reports whether the node has yet to take what the lane has sent.
func (l *lane) full(ctx context.Context) (bool, error) {
	if len(l.copier.lanes) == 1 || l.job == nil || l.stage != copying {
		return false, nil
	}
	flushed, err := l.copy.Flushed(ctx)
	return !flushed, err
}

// copyRows sends the next rows.
func (l *lane) copyRows(ctx context.Context) error {
	most := l.copier.sizes.statement
	if l.copier.config.Open == nil && len(l.copier.lanes) > 1 {
		most = min(most, shareBytes)
	}
	sent, err := l.copy.Copy(ctx, &dblink.Rows{Query: l.query, First: l.next, Last: l.behind, Most: most, Largest: largestRow})
	if err != nil {
		return err
	}
	l.next = sent.Next
	l.job.count += sent.Rows
	l.job.sent += sent.Bytes
	if l.next == "" || sent.Large {
		if err = l.copy.End(ctx); err != nil {
			return err
		}
		l.stage = ended
	}
	if sent.Large {
		_, err = l.copy.Take(ctx)
		return l.refuse(ctx, err)
	}
	if err = l.push(ctx); err != nil {
		return err
	}
	return l.copier.pace.wait(ctx, l.session, sent.Bytes)
}

// metOtherwise are the SQLSTATEs of errors that INSERT may not have: a row is there, a
// feature that COPY lacks, a relation that it can't write to, a type that has changed.
var metOtherwise = []string{"23505", "0A000", "42809", "22P03"}

// refuse ends the job's transaction, and leaves the job to INSERT if that may do
// better: err is nil, or of a kind that INSERT meets otherwise.
func (l *lane) refuse(ctx context.Context, err error) error {
	if err = l.leaveToInsert(ctx, l.copy, l.job, err); err == nil {
		l.take(l.job)
	}
	return err
}

func (l *lane) leaveToInsert(ctx context.Context, stream *dblink.Stream, j *Job, err error) error {
	state := session.SQLState(err)
	if err != nil && !slices.Contains(metOtherwise, state) {
		return err
	}
	if ended := stream.Run(ctx, "ROLLBACK"); ended != nil {
		return ended
	}
	if err != nil && state != "23505" { // else another chunk has other rows
		l.refused[j.table.OID] = true
	}
	j.count, j.sent, j.inserts = 0, 0, true
	return nil
}

func swallowed(sent, taken int64) error {
	return &session.Error{SQLState: "55000", Message: fmt.Sprintf("of %d rows that were sent the node has written %d", sent, taken),
		Hint: "A trigger or a rule of the table on the node keeps rows from it: disable it there."}
}
