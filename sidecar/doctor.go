package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/pg-courier/pg_courier/pkg/doctor"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "examine the databases and their nodes, and say what to do; changes nothing",
		ArgsUsage: " ",
		Description: "Exit code: 0 when nothing is worse than info, 1 when there are warnings,\n" +
			"2 when there are errors or the call was wrong.",
		Flags: append(databaseFlags(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON, with the checks that found nothing"},
			&cli.BoolFlag{Name: "all", Usage: "list also the checks that found nothing"},
		),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: examine,
	}
}

func examine(c *cli.Context) error {
	list, warnings, err := databases(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config := doctor.Config{Version: version, Warnings: warnings}
	for _, d := range list {
		config.Databases = append(config.Databases, doctor.Database{Name: d.Name, DSN: d.DSN})
	}
	report := doctor.Run(ctx, config)
	if ctx.Err() != nil {
		return cli.Exit("interrupted", exitInterrupted)
	}
	if c.Bool("json") {
		encoder := json.NewEncoder(c.App.Writer)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		file, ok := c.App.Writer.(*os.File)
		terminal := ok && term.IsTerminal(int(file.Fd()))
		_, err = io.WriteString(c.App.Writer, report.Text(c.Bool("all"), terminal))
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return exitSilently(report.ExitCode())
}
