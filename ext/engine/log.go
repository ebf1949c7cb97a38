package main

/*
#include <stdlib.h>
#include "courier_engine.h"

static void
host_log(CourierHost *host, CourierLevel level, const char *message)
{
	host->log(level, message);
}
*/
import "C"

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"unsafe"
)

// serverLog is a slog.Handler that writes into the server's log: the message, and
// behind it the attributes as key=value.
type serverLog struct {
	host       *C.CourierHost
	text       *bytes.Buffer
	attributes slog.Handler // writes into text
}

func newServerLog(host *C.CourierHost) *slog.Logger {
	text := &bytes.Buffer{}
	return slog.New(&serverLog{host: host, text: text, attributes: slog.NewTextHandler(text, &slog.HandlerOptions{
		Level: slog.LevelDebug, ReplaceAttr: withoutBuiltins})})
}

// withoutBuiltins leaves out what the server's log has in a place of its own.
func withoutBuiltins(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler: a line for each batch is too much here.
func (l *serverLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (l *serverLog) Handle(ctx context.Context, r slog.Record) error {
	l.text.Reset()
	if err := l.attributes.Handle(ctx, r); err != nil {
		return err
	}
	message := r.Message
	if attributes := strings.TrimSpace(l.text.String()); attributes != "" {
		message += " (" + attributes + ")"
	}
	c := C.CString(message)
	defer C.free(unsafe.Pointer(c))
	C.host_log(l.host, C.CourierLevel(r.Level), c)
	return nil
}

// WithAttrs implements slog.Handler.
func (l *serverLog) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &serverLog{host: l.host, text: l.text, attributes: l.attributes.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (l *serverLog) WithGroup(name string) slog.Handler {
	return &serverLog{host: l.host, text: l.text, attributes: l.attributes.WithGroup(name)}
}
