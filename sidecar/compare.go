package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/compare"
	"github.com/pg-courier/pg_courier/pkg/config"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
	"github.com/pg-courier/pg_courier/pkg/terminal"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "compare the tables of a subscription with those of its node, while both are written to",
		ArgsUsage: " ",
		Description: "Exit code: 0 when the tables are equal, 1 when rows differ (with --repair: differed),\n" +
			"2 when they could not be compared or the call was wrong.",
		Flags: append(databaseFlags(),
			&cli.StringFlag{Name: "subscription", Usage: "compare the tables of subscription `NAME`"},
			&cli.StringSliceFlag{Name: "table", Usage: "only table `NAME`, with its schema unless no other of the subscription is called so; may be repeated"},
			&cli.BoolFlag{Name: "repair", Usage: "ship the rows that differ again, in order with all other changes"},
			&cli.BoolFlag{Name: "print", Usage: "print the statements that would ship them again"},
			&cli.IntFlag{Name: "max-keys", Usage: "show the keys of `N` rows of each table that differ", Value: 100},
			&cli.DurationFlag{Name: "timeout", Usage: "`TIME` that the node may take to apply what is on its way", Value: 5 * time.Minute},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: compareTables,
	}
}

// comparedTable is what is printed of a table.
type comparedTable struct {
	Table    string `json:"table"`
	Equal    bool   `json:"equal"`
	Rows     int64  `json:"rows_compared"`
	Missing  int64  `json:"missing"`
	Extra    int64  `json:"extra"`
	Differ   int64  `json:"different"`
	NotShown int64  `json:"keys_not_shown"`
	Resent   int64  `json:"resent"`
	Keys     []struct {
		Key        json.RawMessage `json:"key"`
		Difference string          `json:"difference"`
		DeadLetter bool            `json:"dead_letter"`
	} `json:"keys"`
	Statements []string `json:"statements"`
	Note       string   `json:"note"`
}

func compareTables(c *cli.Context) error {
	database, request, err := comparison(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	answer, err := runComparison(ctx, database, request, c.StringSlice("table"))
	if ctx.Err() != nil {
		return cli.Exit("interrupted", exitInterrupted)
	}
	if err != nil {
		return cli.Exit(withAdvice(err), exitUsage)
	}
	var tables []comparedTable
	if err := json.Unmarshal(answer, &tables); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if c.Bool("json") {
		_, err = fmt.Fprintf(c.App.Writer, "%s\n", answer)
	} else {
		err = showComparison(c.App.Writer, tables)
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	for _, t := range tables {
		if !t.Equal {
			return exitSilently(1)
		}
	}
	return nil
}

// comparison reads what is asked for.
func comparison(c *cli.Context) (config.Database, compare.Config, error) {
	none := func(message string) (config.Database, compare.Config, error) {
		return config.Database{}, compare.Config{}, cli.Exit(message, exitUsage)
	}
	list, _, err := databases(c)
	if err != nil {
		return config.Database{}, compare.Config{}, err
	}
	switch {
	case len(list) > 1:
		return none("compare works for one database: name it with --database")
	case c.String("subscription") == "":
		return none("name the subscription: courier compare --database … --subscription shop_to_eu")
	case c.Bool("repair") && c.Bool("print"):
		return none("--repair and --print exclude each other: --print only says what --repair would do")
	case c.Int("max-keys") < 0:
		return none(fmt.Sprintf("--max-keys cannot be %d", c.Int("max-keys")))
	case c.Duration("timeout") <= 0:
		return none(fmt.Sprintf("--timeout cannot be %s", c.Duration("timeout")))
	}
	request := compare.Config{Subscription: c.String("subscription"), MaxKeys: c.Int("max-keys"), Timeout: c.Duration("timeout")}
	if c.Bool("repair") {
		request.Repair = compare.Resend
	} else if c.Bool("print") {
		request.Repair = compare.Print
	}
	return list[0], request, nil
}

// runComparison gives the answer as JSON in UTF-8.
func runComparison(ctx context.Context, database config.Database, request compare.Config, tables []string) ([]byte, error) {
	s, err := session.Connect(ctx, database.DSN)
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	if request.Tables, err = findTables(ctx, s, request.Subscription, tables); err != nil {
		return nil, err
	}
	bar := newBar(os.Stderr)
	request.Session, request.Progress = s, bar.show
	answers, err := compare.Run(ctx, request)
	bar.clear()
	if err != nil {
		return nil, err
	}
	// the session speaks the database's encoding
	text, _, err := session.Value(ctx, s, `SELECT pg_catalog.convert_from(pg_catalog.decode($1, 'hex'), pg_catalog.getdatabaseencoding())
		FROM pg_catalog.set_config('client_encoding', 'UTF8', false)`, hex.EncodeToString(compare.JSON(answers)))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return []byte(text), nil
}

// findTables gives the OIDs of the subscription's tables of these names.
func findTables(ctx context.Context, s session.Session, subscription string, names []string) ([]uint32, error) {
	var found []uint32
	for _, name := range names {
		rows, err := s.Query(ctx, `SELECT relation::pg_catalog.oid FROM courier.subscription_table
			WHERE subscription_name = $1 AND $2::pg_catalog.text IN (table_name::pg_catalog.text, pg_catalog.concat(schema_name, '.', table_name),
			      pg_catalog.quote_ident(table_name), pg_catalog.format('%I.%I', schema_name, table_name))`, subscription, name)
		if err != nil {
			return nil, fmt.Errorf("look for table %s: %w", name, err)
		}
		if len(rows) != 1 {
			problem := "is not among the tables"
			if len(rows) > 1 {
				problem = "is the name of several tables"
			}
			return nil, &session.Error{SQLState: "42P01", Message: fmt.Sprintf("%s %s of subscription %q", name, problem, subscription),
				Hint: fmt.Sprintf("SELECT schema_name, table_name FROM courier.subscription_table WHERE subscription_name = '%s' lists them.", subscription)}
		}
		oid, err := strconv.ParseUint(string(rows[0][0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look for table %s: %w", name, err)
		}
		found = append(found, uint32(oid))
	}
	return found, nil
}

// withAdvice is an error with the detail and hint of the database's.
func withAdvice(err error) error {
	var db *session.Error
	text := err.Error()
	if errors.As(err, &db) && db.Detail != "" && strings.HasPrefix(db.SQLState, "08") {
		text += "\n  " + db.Detail // why a node can't be reached
	}
	if hint := ship.Hint(err); hint != "" {
		text += "\n  " + hint
	}
	return errors.New(text)
}

func showComparison(w io.Writer, tables []comparedTable) error {
	var b strings.Builder
	for _, t := range tables {
		verdict := "equal"
		if !t.Equal {
			verdict = fmt.Sprintf("%d missing, %d extra, %d different", t.Missing, t.Extra, t.Differ)
		}
		fmt.Fprintf(&b, "%s: %d rows compared, %s\n", terminal.Plain(t.Table), t.Rows, verdict)
		for _, k := range t.Keys {
			letter := ""
			if k.DeadLetter {
				letter = "  (dead letter)"
			}
			fmt.Fprintf(&b, "  %-9s  %s%s\n", k.Difference, terminal.Plain(string(k.Key)), letter)
		}
		if t.NotShown > 0 {
			fmt.Fprintf(&b, "  and %d more\n", t.NotShown)
		}
		if t.Resent > 0 {
			fmt.Fprintf(&b, "  %d rows are queued to be shipped again\n", t.Resent)
		}
		for _, s := range t.Statements {
			fmt.Fprintf(&b, "  %s\n", terminal.Plain(s))
		}
		if t.Note != "" {
			fmt.Fprintf(&b, "  %s\n", terminal.Plain(t.Note))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
