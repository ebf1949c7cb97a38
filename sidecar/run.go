package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/supervise"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "ship every enabled subscription of the databases, until stopped",
		ArgsUsage: " ",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name:  "database",
				Usage: "`DSN` of a database to work for, a libpq connection string or URI; may be repeated",
			},
			&cli.StringFlag{
				Name:  "log-level",
				Usage: "`LEVEL` from which on messages are logged: debug, info, warn, error",
				Value: "info",
			},
		},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: run,
	}
}

func run(c *cli.Context) error {
	if c.Args().Present() {
		return cli.Exit(fmt.Sprintf("run takes no argument %q; databases are given with --database", c.Args().First()), exitUsage)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return cli.Exit(fmt.Sprintf("--log-level %q is none of debug, info, warn, error", c.String("log-level")), exitUsage)
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level}))

	databases := c.StringSlice("database")
	if len(databases) == 0 {
		return cli.Exit("name at least one database: courier run --database 'host=localhost dbname=shop user=postgres'", exitUsage)
	}
	for _, dsn := range databases {
		// its own words may quote the string, and so a password
		if _, err := pgx.ParseConfig(dsn); err != nil {
			return cli.Exit("--database: the connection string is not of the form 'host=… dbname=… user=…' or postgresql://user@host/dbname", exitUsage)
		}
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log.Info("courier started", "version", version, "databases", len(databases))
	config := supervise.Config{Version: version, Log: log}
	for i, dsn := range databases {
		config.Databases = append(config.Databases, supervise.Database{Name: strconv.Itoa(i + 1), DSN: dsn})
	}
	supervise.New(config).Run(ctx)
	log.Info("courier stopped")
	return nil
}
