package dblink

import (
	"context"
	"fmt"
	"strconv"
)

// Large is how long a string of statements is that is better kept and then sent than
// just sent.
const Large = 8 << 20

// partBytes is how much of it goes into one call.
const partBytes = 1 << 20

// Keep hands a string of statements to the local server, which SendKept then sends. The
// caller may forget it in between: nobody has it more often than needed.
func (l *Link) Keep(ctx context.Context, sql []byte) error {
	room := strconv.Itoa(len(sql))
	for at := 0; at < len(sql); {
		end := partEnd(sql, at)
		if _, err := l.session.Query(ctx, "SELECT courier.remote_keep($1, $2, $3::pg_catalog.int4, $4::pg_catalog.int4)",
			l.name, sql[at:end], strconv.Itoa(at), room); err != nil {
			return fmt.Errorf("keep what is to be sent to node %s: %w", l.node, err)
		}
		at = end
	}
	l.kept = len(sql)
	return nil
}

// partEnd is where a part that begins at a place ends: before an ASCII character, which
// in every encoding that a server may have is no part of another one.
func partEnd(sql []byte, at int) int {
	end := min(at+partBytes, len(sql))
	for i := end; i > at && i < len(sql); i-- {
		if sql[i] < 0x80 {
			return i
		}
	}
	for end < len(sql) && sql[end] >= 0x80 {
		end++
	}
	return end
}

// SendKept is Send of what Keep has handed over.
func (l *Link) SendKept(ctx context.Context) error {
	if _, err := l.sending(ctx, l.kept, "SELECT courier.remote_send_kept($1, $2::pg_catalog.int4)",
		l.name, milliseconds(l.bounds.silence)); err != nil {
		return fmt.Errorf("send to node %s: %w", l.node, err)
	}
	return nil
}
