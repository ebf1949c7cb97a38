package main

import (
	"io"
	"log/slog"

	"github.com/pg-courier/pg_courier/pkg/config"
)

// newLogger writes one line a message. The level may change while it is in use.
func newLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
