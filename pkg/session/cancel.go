package session

import "context"

// Cancel asks the server to cancel the query that runs; unlike Query it may be
// called from another goroutine. The session lives on.
func (s *PGX) Cancel(ctx context.Context) error {
	return s.conn.PgConn().CancelRequest(ctx)
}
