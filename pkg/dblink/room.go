package dblink

import "fmt"

const (
	// roomFor is from how many bytes on what is sent is to find room.
	roomFor = 256 << 10
	// room is how much of it is made.
	room = 8 << 20
)

// Room is a statement to begin a string of statements of about so many bytes with, or ""
// if there is no need. It has the node's session keep, from one string to the next, the
// memory that it parses them in. The C library that PostgreSQL usually runs with gives
// free memory back to the kernel, from which the next string would have to get it page
// by page, until it has seen that larger pieces come and go: here one does. Nothing folds
// the expression into a constant, which would be copied.
func (l *Link) Room(bytes int) string {
	if bytes < roomFor || l.roomy {
		return ""
	}
	l.roomy = true
	return fmt.Sprintf("SELECT pg_catalog.octet_length(pg_catalog.repeat(' ', %d + 0 * pg_catalog.pg_backend_pid()))", room)
}
