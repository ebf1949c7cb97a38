package supervise

import (
	"context"
	"log/slog"
	"time"
)

// housekeepEvery is how often the control session keeps house in its database. A
// worker may do it too; they take turns.
const housekeepEvery = time.Second

// housekeeping is when that was last done, and what came of it.
type housekeeping struct {
	at  time.Time
	err string
}

// keep does what is due in the database: see courier.housekeep(). Only the loss of
// the session is an error: shipping goes on without it.
func (h *housekeeping) keep(ctx context.Context, c *controller) error {
	if time.Since(h.at) < housekeepEvery {
		return nil
	}
	h.at = time.Now()
	rows, err := c.session.Query(ctx, "SELECT action, object FROM courier.housekeep()")
	if err != nil && c.session.Closed() {
		return err
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if err != nil && text != h.err {
		c.log.Warn("keep house", "error", text)
	}
	h.err = text
	for _, row := range rows {
		level, action := slog.LevelDebug, string(row[0])
		if action == "detach" {
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "kept house", "action", action, "object", string(row[1]))
	}
	return nil
}
