// Command courier is the sidecar: it runs beside a PostgreSQL server and ships
// the subscriptions of its databases. One file a command.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version = "unknown"

// exitUsage is the exit code of a call that could not work: flags, a DSN.
const exitUsage = 2

// The engine's live heap is a few megabytes, so that the collector would run
// many times a second; a larger one costs little memory. The limit keeps a
// sidecar of many subscriptions modest.
const (
	gcPercent   = 400
	memoryLimit = 256 << 20
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	app := &cli.App{
		Name:            "courier",
		Usage:           "ships what commits in PostgreSQL databases to other nodes",
		Version:         version,
		HideVersion:     true,
		HideHelpCommand: true,
		Commands:        []*cli.Command{runCommand(), versionCommand()},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		CommandNotFound: func(_ *cli.Context, name string) {
			fmt.Fprintf(os.Stderr, "courier: there is no command %q; see courier --help\n", name)
			os.Exit(exitUsage)
		},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "courier: %v\n", err)
		code := 1
		if coder, ok := err.(cli.ExitCoder); ok {
			code = coder.ExitCode()
		}
		os.Exit(code)
	}
}
