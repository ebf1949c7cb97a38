// Command courier is the sidecar: it runs beside a PostgreSQL server and ships
// the subscriptions of its databases. One file a command.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/config"
)

// version is set by the linker.
var version = "unknown"

// exitUsage is the exit code of a call that could not work: flags, a DSN, a
// port that is taken. Starting it again does not help.
const exitUsage = 2

func main() {
	app := &cli.App{
		Name:                      "courier",
		Usage:                     "ships what commits in PostgreSQL databases to other nodes",
		Version:                   version,
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true, // a connection string may have commas
		Commands: []*cli.Command{runCommand(), statusCommand(), copyCommand(), doctorCommand(), compareCommand(),
			versionCommand()},
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
		if err.Error() != "" { // else what was printed says it all
			fmt.Fprintf(os.Stderr, "courier: %v\n", err)
		}
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	var coder cli.ExitCoder
	var setting *config.Error
	switch {
	case errors.As(err, &coder):
		return coder.ExitCode()
	case errors.As(err, &setting):
		return exitUsage
	default:
		return 1
	}
}
