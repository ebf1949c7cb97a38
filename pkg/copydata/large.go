package copydata

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/dblink"
)

const (
	// sliceBytes is how much of a large value goes into one statement.
	sliceBytes = 2 << 20
	// smallValue is the size of a value that is not worth cutting up.
	smallValue = 64 << 10
)

// sendLarge sends the row at l.next, whose values have these sizes: the large
// ones in slices, which the statement that inserts it puts together. It goes on
// behind the row, and leaves nothing in flight.
func (l *lane) sendLarge(ctx context.Context, sizes []int64) error {
	t := l.job.table
	place := l.next
	behind, err := behindPlace(place)
	if err != nil {
		return err
	}
	values, from, err := l.sendSlices(ctx, place, sizes)
	if err != nil {
		return err
	}
	insert := t.Target.Rows(l.existing, values, from)
	clean := fmt.Sprintf(";\nDELETE FROM courier_target.piece WHERE subscription = %s AND link = %d",
		literal(l.copier.config.Key), l.number)
	l.job.count++
	l.next = behind
	if len(insert.Columns) == 0 {
		if err = l.link.Send(ctx, []byte(l.prologue()+insert.Head+clean)); err != nil {
			return err
		}
		return l.settle(ctx)
	}
	joints := slices.Clone(insert.Joints)
	joints[len(joints)-1] += clean
	sent, err := l.link.SendRows(ctx, &dblink.Rows{Query: t.query(l.job.leaf, insert.Columns, ""), First: place, Last: behind,
		Head: l.prologue() + insert.Head, Joints: array(joints), Most: l.copier.sizes.statement, Largest: math.MaxInt32})
	if err != nil {
		return err
	}
	if sent.Rows != 1 {
		return fmt.Errorf("at %s there are %d rows", place, sent.Rows)
	}
	return l.settle(ctx)
}

// sendSlices sends the large values of a row, and returns for each of them an
// expression, and the FROM clause in which they are put together: as an expression
// in the list of a SELECT, each would be in memory once more. There may be none:
// many small values make a large row, too.
func (l *lane) sendSlices(ctx context.Context, place string, sizes []int64) (values map[int]string, from string, err error) {
	values = make(map[int]string)
	var together []string
	for i, size := range sizes {
		if size <= smallValue {
			continue
		}
		number, column := l.insert.Columns[i], "text"
		if l.job.table.Binary[number] {
			column = "bytes"
		}
		query := l.job.table.query(l.job.leaf, []int{number}, "")
		for offset := int64(0); offset >= 0; {
			head := l.prologue() + fmt.Sprintf("INSERT INTO courier_target.piece (subscription, link, number, place, %s) VALUES (%s, %d, %d, %d, '",
				column, literal(l.copier.config.Key), l.number, number, offset)
			next, err := l.link.SendValue(ctx, query, place, 1, offset, sliceBytes, head, "')")
			if err != nil {
				return nil, "", err
			}
			if err = l.settle(ctx); err != nil {
				return nil, "", err
			}
			if err = l.copier.pace.wait(ctx, l.session, sliceBytes); err != nil {
				return nil, "", err
			}
			l.job.sent += min(sliceBytes, size)
			offset = next
		}
		values[number] = fmt.Sprintf("v.c%d", number)
		together = append(together, fmt.Sprintf("pg_catalog.string_agg(p.%s, '') FILTER (WHERE p.number = %d) AS c%d", column, number, number))
	}
	if len(together) == 0 {
		return nil, "", nil
	}
	return values, fmt.Sprintf(" FROM (SELECT %s FROM (SELECT * FROM courier_target.piece WHERE subscription = %s AND link = %d ORDER BY number, place) AS p) AS v",
		strings.Join(together, ", "), literal(l.copier.config.Key), l.number), nil
}

// settle waits for what is in flight.
func (l *lane) settle(ctx context.Context) error {
	outcome, err := l.link.Wait(ctx)
	if err == nil && outcome.Err != nil {
		err = outcome.Err
	}
	return err
}
