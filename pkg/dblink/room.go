package dblink

import (
	"context"
	"fmt"
)

const (
	// roomFor is from how long a string of statements on the node is to keep its
	// memory.
	roomFor = 256 << 10
	// room is how much it is made to take and give back.
	room = 8 << 20
)

// makeRoom has the node's session keep, from one batch to the next, the memory that it
// parses them in. The C library that PostgreSQL usually runs with gives free memory back
// to the kernel, from which the next batch would have to get it page by page, until it
// has seen that much larger pieces come and go: here one does. Nothing folds the
// expression into a constant, which would be copied.
func (l *Link) makeRoom(ctx context.Context, length int) error {
	if length < roomFor || l.roomy {
		return nil
	}
	l.roomy = true
	_, err := l.value(ctx, fmt.Sprintf(
		"SELECT pg_catalog.octet_length(pg_catalog.repeat(' ', %d + 0 * pg_catalog.pg_backend_pid()))", room))
	return err
}
