package copydata

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/chunk"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// largestRow is the size of a row that goes into a statement with others.
const largestRow = 4 << 20

// Job is what a lane does in one transaction on the target: a chunk, or single
// rows of a leaf.
type Job struct {
	table *Table
	leaf  *leaf
	pages chunk.PageRange
	rows  []string    // places of single rows, which are written whether they are there or not
	also  string      // a statement before them, or ""
	anew  bool        // that statement deletes the rows
	merge *chunk.Leaf // of the node: its rows on the pages are compared, in several transactions
	count int64       // rows sent
	sent  int64       // bytes of statements
	done  bool        // committed on the target

	inserts bool // its rows can't go over a stream
	blocked int  // rows of a merge that others were in the way of
}

// lane is a connection to the node with the session that it belongs to.
type lane struct {
	copier  *Copier
	number  int
	session session.Session
	close   func() // of a session of its own, or nil
	link    *dblink.Link

	job *Job

	existing render.Existing
	insert   render.Rows
	query    string
	next     string // place where reading goes on; "" when all is sent
	behind   string // place where it ends
	begun    bool   // the target's transaction
	ending   bool   // its end is in flight
	checked  int64  // rows of the statement in flight, or -1

	copy    *dblink.Stream  // opened when it is needed, or nil
	spare   *dblink.Stream  // the other one, or nil
	refused map[uint32]bool // tables whose rows can't go over them
	stage   stage           // of the job over copy
	tail    *tail           // the job before it, or nil

	ahead *dblink.Sent // what was read at next while the node worked, and is yet to be sent
}

// take begins a job.
func (l *lane) take(j *Job) {
	l.job, l.begun, l.ending, l.checked, l.ahead = j, false, false, -1, nil
	l.stage = untouched
	existing := render.Fail
	switch {
	case j.anew:
	case j.rows != nil:
		existing = render.Replace
	case j.table.Tolerant:
		existing = render.Keep
	}
	l.existing = existing
	if j.merge != nil {
		return
	}
	l.insert = j.table.Target.Rows(existing, nil, "")
	if j.rows == nil {
		l.query = j.table.query(j.leaf, l.insert.Columns, "")
		l.next, l.behind = j.pages.Bounds()
		return
	}
	l.query = j.table.query(j.leaf, l.insert.Columns, " AND ctid = ANY ("+literal(string(array(j.rows)))+"::pg_catalog.tid[])")
	l.next, l.behind = "(0,0)", "(4294967295,0)"
}

// advance takes a step of the lane's job, or takes one; idle says that there is
// nothing to do.
func (l *lane) advance(ctx context.Context, epoch Epoch) (idle bool, err error) {
	if l.job == nil {
		j := l.copier.next(epoch)
		if j == nil {
			return l.tail == nil, l.conclude(ctx)
		}
		l.take(j)
	}
	if l.tail != nil && (l.tail.job.table != l.job.table || !l.streams(l.job)) {
		return false, l.conclude(ctx) // it may have what this one waits for
	}
	j := l.job
	done, err := l.step(ctx)
	if done {
		l.copier.finish(j)
		l.job = nil
	}
	if err != nil && !errors.As(err, new(*TableError)) { // the tail's says so itself
		err = &TableError{Table: j.table, Err: err}
	}
	return false, err
}

// step waits for what is in flight and sends what comes next; done says that the
// job is committed.
func (l *lane) step(ctx context.Context) (done bool, err error) {
	if l.job.merge != nil {
		err = l.merge(ctx, l.job)
		return err == nil, err
	}
	if l.stage != untouched || l.streams(l.job) && !l.begun {
		return false, l.stream(ctx)
	}
	if l.link.Busy() {
		if err = l.await(ctx); err != nil || l.ending {
			return err == nil, err
		}
	}
	if l.next == "" {
		return false, l.end(ctx)
	}
	return false, l.read(ctx)
}

// await waits for the statement in flight, and before that reads what comes next:
// the node and the source's server work at the same time.
func (l *lane) await(ctx context.Context) error {
	if l.next != "" && l.ahead == nil {
		read, err := l.link.ReadRows(ctx, l.rows())
		if err != nil {
			return err
		}
		l.ahead = &read
	}
	outcome, err := l.link.Wait(ctx)
	if err == nil && outcome.Err != nil {
		err = outcome.Err
	}
	if err == nil {
		err = l.check(outcome)
	}
	return err
}

// check makes sure that the node has taken all rows of a statement.
func (l *lane) check(outcome dblink.Outcome) error {
	expected := l.checked
	l.checked = -1
	if expected < 0 || len(outcome.Counts) == 0 || outcome.Counts[len(outcome.Counts)-1] == expected {
		return nil
	}
	return swallowed(expected, outcome.Counts[len(outcome.Counts)-1])
}

// prologue is what a job's transaction begins with.
func (l *lane) prologue() string {
	if l.begun {
		return ""
	}
	l.begun = true
	sql := "BEGIN;\nSET LOCAL synchronous_commit = on;\nSELECT courier_target.hold_position(" + literal(l.copier.config.Key) + ", " + literal(l.copier.head) + ");\n"
	if l.job.table.Target.RowSecurity() {
		sql += "SET LOCAL row_security = on;\n"
	}
	if l.job.also != "" {
		sql += l.job.also + ";\n"
	}
	return sql
}

// rows is what is to be read next.
func (l *lane) rows() *dblink.Rows {
	return &dblink.Rows{Query: l.query, First: l.next, Last: l.behind, Head: l.prologue() + l.insert.Head,
		Joints: array(l.insert.Joints), Most: l.copier.sizes.statement, Largest: largestRow}
}

// send reads the next rows and sends them, or those that were read ahead.
func (l *lane) send(ctx context.Context) (sent dblink.Sent, err error) {
	if l.ahead == nil {
		return l.link.SendRows(ctx, l.rows())
	}
	sent, l.ahead = *l.ahead, nil
	if sent.Rows > 0 {
		err = l.link.SendRead(ctx, &sent)
	}
	return sent, err
}

// read sends the next rows.
func (l *lane) read(ctx context.Context) error {
	begun := l.begun
	sent, err := l.send(ctx)
	if err != nil {
		return err
	}
	l.next = sent.Next
	l.job.count += sent.Rows
	if sent.Rows == 0 {
		l.begun = begun // nothing was sent
	} else if l.checked = sent.Rows; l.job.table.Tolerant && l.job.rows == nil {
		l.checked = -1
	}
	l.job.sent += sent.Bytes
	if sent.Sizes != nil {
		if err = l.sendLarge(ctx, sent.Sizes); err != nil {
			return err
		}
	}
	return l.copier.pace.wait(ctx, l.session, sent.Bytes)
}

// note is the statement that notes that the job's chunk has arrived.
func (j *Job) note(key string) string {
	return fmt.Sprintf(`INSERT INTO courier_target.copied_chunk
		(subscription, relation, leaf, filenode, from_block, to_block, rows, bytes)
		VALUES (%s, %d, %d, %d, %d, %d, %d, %d)
		ON CONFLICT (subscription, relation, leaf, from_block) DO UPDATE -- of a file that is no more
		SET filenode = excluded.filenode, to_block = excluded.to_block, rows = excluded.rows, bytes = excluded.bytes,
		    copied_at = excluded.copied_at;
		`, literal(key), j.table.OID, j.leaf.OID, j.leaf.Filenode, j.pages.From, j.pages.To,
		j.count, j.leaf.bytes(j.pages))
}

// end notes the chunk and commits.
func (l *lane) end(ctx context.Context) error {
	sql := l.prologue()
	if l.job.rows == nil {
		sql += l.job.note(l.copier.config.Key)
	}
	l.ending = true
	return l.link.Send(ctx, []byte(sql+"COMMIT"))
}

// behindPlace is the place behind a row's, which is a page with a number on it.
func behindPlace(place string) (string, error) {
	block, item, ok := strings.Cut(strings.Trim(place, "()"), ",")
	n, err := strconv.Atoi(item)
	if !ok || err != nil {
		return "", fmt.Errorf("a row's place is %q", place)
	}
	return "(" + block + "," + strconv.Itoa(n+1) + ")", nil
}

// TableError is an error of copying a table.
type TableError struct {
	Table *Table
	Err   error
}

// Error implements error.
func (e *TableError) Error() string { return "copy table " + e.Table.String() + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TableError) Unwrap() error { return e.Err }
