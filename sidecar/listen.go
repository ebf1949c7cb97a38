package main

import (
	"errors"
	"log/slog"
	"net"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/config"
	"github.com/pg-courier/pg_courier/pkg/logkey"
)

// openListener takes the port before any work begins, so that one that is taken
// is a mistake of the call. It is nil if there is to be none.
//
// The port that nobody asked for is not worth refusing to ship: a second sidecar
// on the host then runs without, and says so.
func openListener(settings *config.Config, log *slog.Logger) (net.Listener, error) {
	if settings.Listen == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", settings.Listen)
	if err == nil {
		return listener, nil
	}
	where, given := settings.Given("listen")
	if !given {
		log.Warn("metrics and health are not served: the default address is not free; give another with --listen, or none",
			logkey.Listen, settings.Listen, logkey.Error, systemReason(err))
		return nil, nil
	}
	return nil, cli.Exit(where+": listen on "+settings.Listen+": "+systemReason(err), exitUsage)
}

// systemReason is the system's word, such as "address already in use".
func systemReason(err error) string {
	var call *os.SyscallError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &call):
		return call.Err.Error()
	case errors.As(err, &lookup):
		return "there is no such host"
	default:
		return err.Error()
	}
}
