package copydata

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// pace keeps all lanes together at a rate.
type pace struct {
	rate int64 // bytes a second; 0 for no limit
	now  func() time.Time

	mu  sync.Mutex
	due time.Time // when what was sent so far would have been at that rate
}

// longestPause is how long a lane pauses at once: it is to notice a cancel, and
// the network that its connection is alive.
const longestPause = time.Second

// wait pauses until so many bytes more are due. It is the session's server that
// waits: a backend can be cancelled then.
func (p *pace) wait(ctx context.Context, s session.Session, bytes int64) error {
	if p.rate == 0 || bytes == 0 {
		return nil
	}
	p.mu.Lock()
	now := p.now()
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(bytes) / float64(p.rate) * float64(time.Second)))
	due := p.due
	p.mu.Unlock()
	for pause := due.Sub(p.now()); pause > 0; pause = due.Sub(p.now()) {
		seconds := strconv.FormatFloat(min(pause, longestPause).Seconds(), 'f', 3, 64)
		if _, err := s.Query(ctx, "SELECT pg_catalog.pg_sleep($1::pg_catalog.float8)", seconds); err != nil {
			return fmt.Errorf("keep to the rate of the copy: %w", err)
		}
	}
	return nil
}
