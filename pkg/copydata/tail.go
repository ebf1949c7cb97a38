package copydata

import (
	"context"

	"github.com/pg-courier/pg_courier/pkg/dblink"
)

// pushBytes is how much is sent of a job before the tail's rows are waited for.
const pushBytes = 1 << 20

// tail is a job whose rows have all been sent over a stream. The node writes the last
// of them, and then its log to disk, while the lane sends the next job's over another.
type tail struct {
	stream     *dblink.Stream
	job        *Job
	check      string // what is to be run before it is noted
	committing bool   // what was sent last is the note and the commit, not the end of the rows
}

// push sends on the tail's rows, or its commit when the node should have taken them.
func (l *lane) push(ctx context.Context) error {
	switch {
	case l.tail == nil || l.tail.committing:
		return nil
	case l.next == "" || l.job.sent >= pushBytes:
		return l.commit(ctx)
	}
	_, err := l.tail.stream.Flushed(ctx)
	return err
}

// commit waits until the node has taken the tail's rows, and sends the commit.
func (l *lane) commit(ctx context.Context) error {
	t := l.tail
	taken, err := t.stream.Take(ctx)
	if err != nil {
		return l.giveBack(ctx, err)
	}
	if taken != t.job.count {
		return &TableError{Table: t.job.table, Err: swallowed(t.job.count, taken)}
	}
	t.committing = true
	return t.stream.Send(ctx, t.check+t.job.note(l.copier.config.Key)+"COMMIT")
}

// conclude waits until the tail is committed, if there is one.
func (l *lane) conclude(ctx context.Context) error {
	if l.tail != nil && !l.tail.committing {
		if err := l.commit(ctx); err != nil {
			return err
		}
	}
	if l.tail == nil { // or it was given back
		return nil
	}
	if _, err := l.tail.stream.Take(ctx); err != nil {
		return l.giveBack(ctx, err)
	}
	l.copier.finish(l.tail.job)
	l.drop()
	return nil
}

// giveBack leaves the tail's job undone, for INSERT in the next snapshot, if that may do
// better.
func (l *lane) giveBack(ctx context.Context, err error) error {
	if err = l.leaveToInsert(ctx, l.tail.stream, l.tail.job, err); err != nil {
		return &TableError{Table: l.tail.job.table, Err: err}
	}
	l.drop()
	return nil
}

// drop ends the tail, whose stream is free.
func (l *lane) drop() { l.spare, l.tail = l.tail.stream, nil }
