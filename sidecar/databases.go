package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/config"
)

// databases are those that a report is asked for, by the flags, environment and
// file of run.
func databases(c *cli.Context) (_ []config.Database, warnings []string, _ error) {
	if c.Args().Present() {
		return nil, nil, cli.Exit(fmt.Sprintf("%s takes no argument %q; databases are given with --database",
			c.Command.Name, c.Args().First()), exitUsage)
	}
	settings, err := readConfig(c)
	if err != nil {
		return nil, nil, err
	}
	return settings.Databases, settings.Warnings, nil
}
