package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/pg-courier/pg_courier/pkg/status"
)

// exitInterrupted is what a shell makes of SIGINT.
const exitInterrupted = 130

// shortestInterval keeps --watch from loading the databases.
const shortestInterval = 100 * time.Millisecond

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how the subscriptions and nodes of the databases are doing",
		ArgsUsage: " ",
		Description: "Exit code: 0 when all is well, 1 when a subscription is retrying, stopped or needs_resync or a node is down,\n" +
			"2 when a database cannot be read or the call was wrong.",
		Flags: append(databaseFlags(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON; with --watch one object a line"},
			&cli.BoolFlag{Name: "watch", Usage: "show it again every interval, until interrupted"},
			&cli.DurationFlag{Name: "interval", Usage: "`TIME` between two looks with --watch", Value: time.Second},
		),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: showStatus,
	}
}

func showStatus(c *cli.Context) error {
	list, _, err := databases(c)
	if err != nil {
		return err
	}
	if c.Duration("interval") < shortestInterval {
		return cli.Exit(fmt.Sprintf("--interval %s is too short; the shortest is %s", c.Duration("interval"), shortestInterval), exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	sources := make([]status.Source, len(list))
	for i, d := range list {
		sources[i] = status.Source{Name: d.Name, DSN: d.DSN}
	}
	reader := status.New(sources)
	defer reader.Close(ctx)

	show := showText
	if c.Bool("json") {
		show = showJSON
	}
	if c.Bool("watch") {
		return watch(ctx, c.App.Writer, reader, show, c.Duration("interval"))
	}
	report := reader.Read(ctx)
	if ctx.Err() != nil {
		return cli.Exit("interrupted", exitInterrupted)
	}
	if err := show(c.App.Writer, report, false); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return exitSilently(report.ExitCode())
}

// watch shows the state every interval until the context ends, which is how it
// is meant to end.
func watch(ctx context.Context, w io.Writer, reader *status.Reader,
	show func(io.Writer, *status.Report, bool) error, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		report := reader.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := show(w, report, true); err != nil {
			return fmt.Errorf("write the status: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func showJSON(w io.Writer, report *status.Report, watching bool) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if !watching {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(report)
}

func showText(w io.Writer, report *status.Report, watching bool) error {
	file, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	frame := report.Text(terminal)
	switch {
	case watching && terminal:
		columns, lines, err := term.GetSize(int(file.Fd()))
		if err == nil {
			frame = redraw(frame, columns, lines)
		}
	case watching:
		frame = time.Now().Format(time.RFC3339) + "\n" + frame + "\n"
	}
	_, err := io.WriteString(w, frame)
	return err
}

// redraw is what puts a frame over the one before, without a flicker: each line
// is written over and its rest erased. What does not fit is left out, because a
// screen that scrolls could not be written over. A terminal of size 0 does not
// know its size.
func redraw(frame string, columns, lines int) string {
	var b bytes.Buffer
	b.WriteString("\x1b[H")
	rows := strings.Split(strings.TrimSuffix(frame, "\n"), "\n")
	if room := max(lines-1, 1); lines > 0 && len(rows) > room {
		rows = append(rows[:room-1], fmt.Sprintf("(%d lines more)", len(rows)-room+1))
	}
	for _, row := range rows {
		if columns > 0 {
			row = text.Trim(row, columns)
		}
		b.WriteString(row)
		b.WriteString("\x1b[0m\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// exitSilently ends the program with a code that what was printed explains.
func exitSilently(code int) error {
	if code == 0 {
		return nil
	}
	return cli.Exit("", code)
}
