package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pg-courier/pg_courier/pkg/session"
)

const (
	// bellWait is how long the bell's session waits for changes at a time.
	bellWait = "1 s"
	// bellSilence is after how long without an answer it is given up.
	bellSilence = 15 * time.Second
)

// bell rings when something was queued: for loops that have no session to wait
// in. It has one of its own, in which it waits for changes while somebody
// listens.
type bell struct {
	news
	works atomic.Bool
	asked chan struct{} // somebody listens
}

// ask says that somebody listens for the next ring: of what was committed since
// the last one it heard of.
func (b *bell) ask() {
	select {
	case b.asked <- struct{}{}:
	default:
	}
}

// run rings until ctx is over.
func (b *bell) run(ctx, abandon context.Context, dsn string, log *slog.Logger) {
	pause := newBackoff()
	for ctx.Err() == nil {
		err := b.attend(ctx, abandon, dsn, pause.Reset)
		b.works.Store(false) // the control session looks instead
		if ctx.Err() != nil {
			return
		}
		log.Warn("changes for resting subscriptions are found by polling", "error", err.Error())
		sleep(ctx, pause.NextBackOff())
	}
}

// attend rings until its session fails.
func (b *bell) attend(ctx, abandon context.Context, dsn string, connected func()) error {
	s, err := session.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close(abandon)
	stop := context.AfterFunc(ctx, func() {
		// If it fails, the wait ends by itself.
		_ = s.Cancel(abandon)
	})
	defer stop()
	if _, err = s.Query(abandon, "SELECT pg_catalog.set_config('application_name', 'pg_courier bell', false)"); err != nil {
		return err
	}
	// From the first call on nothing is missed. What was queued before may have
	// been looked for by nobody.
	if _, err = b.changed(abandon, s, "0"); err != nil {
		return err
	}
	b.works.Store(true)
	b.ring()
	connected()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.asked:
		}
		for changed := false; !changed; {
			if changed, err = b.changed(abandon, s, bellWait); err != nil || ctx.Err() != nil {
				return err
			}
		}
		b.ring()
	}
}

// changed waits for changes.
func (b *bell) changed(ctx context.Context, s session.Session, timeout string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, bellSilence)
	defer cancel()
	value, _, err := session.Value(ctx, s, "SELECT courier.wait_for_changes($1::pg_catalog.interval)", timeout)
	if err != nil {
		return false, fmt.Errorf("wait for changes: %w", err)
	}
	return value == "t", nil
}
