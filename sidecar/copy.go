package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
	"github.com/pg-courier/pg_courier/pkg/status"
)

// copyEvery is how often the progress of a copy is looked at.
const copyEvery = 500 * time.Millisecond

func copyCommand() *cli.Command {
	return &cli.Command{
		Name:      "copy",
		Usage:     "copy existing rows to a node, and show how far it is",
		ArgsUsage: "SUBSCRIPTION [TABLE …]",
		Description: "With tables, asks for a new copy of these. Then shows the progress of all tables of the subscription\n" +
			"that are yet to be copied, until they are. What no other process ships is shipped by this one.\n" +
			"Exit code: 0 when all is copied, 1 when a copy does not go on by itself, 2 when the call was wrong.",
		Flags: append(databaseFlags(),
			&cli.StringFlag{Name: "on-existing", Value: "merge",
				Usage: "what is done about rows that the node has of the tables named: error, merge or truncate"},
		),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(err, exitUsage)
		},
		Action: copyTables,
	}
}

func copyTables(c *cli.Context) error {
	settings, err := readConfig(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if name == "" || len(settings.Databases) != 1 {
		return cli.Exit("copy takes one --database and the name of a subscription", exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dsn := settings.Databases[0].DSN
	s, err := session.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	if _, err = s.Query(ctx, "SELECT pg_catalog.set_config('client_encoding', 'UTF8', false), courier.find_subscription($1)", name); err != nil {
		return withHint(err)
	}
	// names of tables are the caller's, and found as psql finds them
	if _, err = s.Query(ctx, "RESET search_path"); err != nil {
		return err
	}
	for _, table := range c.Args().Tail() {
		if _, err = s.Query(ctx, "SELECT courier.alter_subscription_resynchronize_table($1, $2::pg_catalog.text, $3)",
			name, table, c.String("on-existing")); err != nil {
			return withHint(err)
		}
	}
	drained, ended := make(chan error, 1), make(chan struct{})
	shipping, end := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		drained <- drain(shipping, dsn, name)
	}()
	err = watchCopy(ctx, newCopyView(c.App.Writer), s, name, c.Args().Len() > 1, drained)
	end()
	<-ended // the chunks under way are finished
	if ctx.Err() != nil {
		return cli.Exit("interrupted; the copy goes on at the chunk it was at when it is shipped again", exitInterrupted)
	}
	return err
}

// withHint adds what an error advises to do to what it says.
func withHint(err error) error {
	if hint := ship.Hint(err); hint != "" {
		return fmt.Errorf("%w\n  hint: %s", err, hint)
	}
	return err
}

// drain ships a subscription, unless somebody else does: then that one copies.
func drain(ctx context.Context, dsn, name string) error {
	s, err := session.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	stopping := make(chan struct{})
	context.AfterFunc(ctx, func() { close(stopping) })
	shipper := ship.New(ship.Config{Session: s, Subscription: name, Shipper: "sidecar", Stopping: stopping,
		Open: func(ctx context.Context) (session.Session, func(), error) {
			own, err := session.Connect(ctx, dsn)
			if err != nil {
				return nil, nil, err
			}
			return own, func() { own.Close(context.Background()) }, nil
		}})
	defer shipper.Close(context.WithoutCancel(ctx))
	_, err = shipper.Drain(context.WithoutCancel(ctx))
	switch {
	case ship.Busy(err) || errors.Is(err, ship.ErrStopping):
		return nil
	case err != nil:
		return err
	}
	return shipper.Note(context.WithoutCancel(ctx))
}

// copyReport is what is known of a subscription's copy.
type copyReport struct {
	Copies      []status.Copy `json:"copies"`
	Outstanding bool          `json:"outstanding"`
	State       string        `json:"state"`
	Error       string        `json:"error"`
	Hint        string        `json:"hint"`
}

func readCopies(ctx context.Context, s session.Session, name string) (*copyReport, error) {
	text, _, err := session.Value(ctx, s, `SELECT pg_catalog.jsonb_build_object(
		'copies', coalesce((SELECT pg_catalog.jsonb_agg(`+status.CopyColumns+` ORDER BY c.schema_name, c.table_name)
		    FROM courier.copy_status AS c WHERE c.subscription_name = s.subscription_name), '[]'),
		'outstanding', courier.copies_outstanding(s.subscription_id),
		'state', t.state, 'error', t.last_error, 'hint', t.last_error_hint)
		FROM courier.subscription AS s JOIN courier.subscription_status AS t USING (subscription_name)
		WHERE s.subscription_name = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("read the progress of the copy: %w", err)
	}
	report := &copyReport{}
	if err = json.Unmarshal([]byte(text), report); err != nil {
		return nil, fmt.Errorf("read the progress of the copy: %w", err)
	}
	return report, nil
}

// watchCopy shows the progress until all is copied, or it does not go on. Where only
// some tables are asked for, those that were cancelled before are no matter.
func watchCopy(ctx context.Context, show *copyView, s session.Session, name string, some bool, drained <-chan error) error {
	defer show.end()
	awaited := make(map[string]bool)
	ticker := time.NewTicker(copyEvery)
	defer ticker.Stop()
	for {
		report, err := readCopies(ctx, s, name)
		if err != nil {
			return err
		}
		show.update(report.Copies)
		for i := range report.Copies {
			if c := &report.Copies[i]; c.State != "cancelled" || !some {
				awaited[c.Name()] = true
			}
		}
		switch {
		case !report.Outstanding:
			return requireUncancelled(ctx, s, name, report.Copies, awaited)
		case report.State == "stopped" || report.State == "needs_resync" || report.State == "disabled":
			return fmt.Errorf("subscription %s is %s: %s\n  hint: %s", name, report.State, report.Error, report.Hint)
		}
		select {
		case err := <-drained:
			if err != nil {
				return withHint(err)
			}
			drained = nil // all, or somebody else ships
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// requireUncancelled makes an error of a copy that was cancelled: nothing of its table is
// sent.
func requireUncancelled(ctx context.Context, s session.Session, name string, copies []status.Copy, awaited map[string]bool) error {
	for i := range copies {
		c := &copies[i]
		if c.State != "cancelled" || !awaited[c.Name()] {
			continue
		}
		remedy, _, err := session.Value(ctx, s, `SELECT pg_catalog.format('SELECT courier.alter_subscription_resynchronize_table(%L, %L);',
			$1::pg_catalog.text, pg_catalog.format('%I.%I', $2::pg_catalog.text, $3::pg_catalog.text))`, name, c.Schema, c.Table)
		if err != nil {
			return fmt.Errorf("read the progress of the copy: %w", err)
		}
		return fmt.Errorf("the copy of %s was cancelled, and nothing of the table is sent\n  hint: To copy it after all run %s", c.Name(), remedy)
	}
	return nil
}

// copyView shows copies: on a terminal a bar for each, else a line for each that
// has come on.
type copyView struct {
	out      io.Writer
	bars     progress.Writer // nil without a terminal
	trackers map[string]*progress.Tracker
	lines    map[string]string
}

func newCopyView(w io.Writer) *copyView {
	v := &copyView{out: w, trackers: make(map[string]*progress.Tracker), lines: make(map[string]string)}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		v.bars = progress.NewWriter()
		v.bars.SetOutputWriter(w)
		v.bars.SetTrackerPosition(progress.PositionRight)
		v.bars.SetUpdateFrequency(copyEvery / 4)
		v.bars.Style().Visibility.ETA = true
		v.bars.Style().Visibility.Speed = true
		go v.bars.Render()
	}
	return v
}

func (v *copyView) update(copies []status.Copy) {
	for i := range copies {
		c := &copies[i]
		if v.bars == nil {
			v.line(c)
			continue
		}
		t := v.trackers[c.Name()]
		if t == nil {
			if c.State == "copied" {
				continue // before
			}
			t = &progress.Tracker{Message: c.Name(), Units: progress.UnitsBytes}
			v.trackers[c.Name()] = t
			v.bars.AppendTracker(t)
		}
		t.UpdateMessage(c.Name() + " " + c.State)
		t.UpdateTotal(max(c.BytesTotal, 1))
		t.SetValue(min(c.Bytes, max(c.BytesTotal-1, 0)))
		if c.State == "copied" {
			t.MarkAsDone()
		}
	}
}

func (v *copyView) line(c *status.Copy) {
	line := fmt.Sprintf("%s: %s, %d of %d chunks, %d rows", c.Name(), c.State, c.ChunksDone, c.ChunksTotal, c.Rows)
	if v.lines[c.Name()] == line {
		return
	}
	v.lines[c.Name()] = line
	if c.SecondsLeft != nil {
		line += fmt.Sprintf(", %s, %s left", c.Rate(), c.Left())
	}
	// What can't be written can't be told either.
	_, _ = fmt.Fprintln(v.out, line)
}

func (v *copyView) end() {
	if v.bars == nil {
		return
	}
	v.bars.Stop()
	for v.bars.IsRenderInProgress() {
		time.Sleep(time.Millisecond)
	}
}
