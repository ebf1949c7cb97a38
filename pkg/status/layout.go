package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/pg-courier/pg_courier/pkg/terminal"
)

// Text lays a report out for people. Nothing of it moves the cursor or the like,
// whatever the databases contain.
func (r *Report) Text(color bool) string {
	var b strings.Builder
	r.writeSubscriptions(&b, color)
	r.writeCopies(&b, color)
	r.writeErrors(&b, color)
	r.writeNodes(&b, color)
	r.writeQueues(&b)
	return b.String()
}

func newTable(header ...any) table.Writer {
	w := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	w.SetStyle(style)
	w.SuppressTrailingSpaces()
	w.AppendHeader(header)
	return w
}

// alignRight sets columns of numbers, counted from 1.
func alignRight(w table.Writer, columns ...int) {
	var configs []table.ColumnConfig
	for _, column := range columns {
		configs = append(configs, table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	w.SetColumnConfigs(configs)
}

func writeTable(b *strings.Builder, w table.Writer) {
	if w.Length() == 0 {
		return
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	b.WriteString(w.Render())
	b.WriteString("\n")
}

func (r *Report) writeSubscriptions(b *strings.Builder, color bool) {
	w := newTable("database", "subscription", "node", "state", "lag", "behind", "pending", "shipper", "next retry")
	alignRight(w, 5, 6, 7)
	for i := range r.Databases {
		d := &r.Databases[i]
		switch {
		case d.Error != nil:
			w.AppendRow(table.Row{terminal.Plain(d.Name), "", "", colored("unreachable", color)})
		case len(d.Subscriptions) == 0:
			w.AppendRow(table.Row{terminal.Plain(d.Name), "(none)"})
		}
		for j := range d.Subscriptions {
			s := &d.Subscriptions[j]
			w.AppendRow(table.Row{terminal.Plain(d.Name), terminal.Plain(s.Name), terminal.Plain(s.Node), colored(s.State, color),
				known(s.LagSeconds, seconds), known(s.LagBytes, size), known(s.PendingChanges, humanize.Comma),
				s.Shipper, retry(s.NextRetryAt, d.ReadAt)})
		}
	}
	writeTable(b, w)
}

// writeErrors tells, below the table, what would be too wide for it.
func (r *Report) writeErrors(b *strings.Builder, color bool) {
	for i := range r.Databases {
		d := &r.Databases[i]
		writeError(b, terminal.Plain(d.Name), "unreachable", d.Error, color)
		for j := range d.Subscriptions {
			s := &d.Subscriptions[j]
			writeError(b, terminal.Plain(d.Name)+" "+terminal.Plain(s.Name), s.State, s.LastError, color)
		}
	}
}

func writeError(b *strings.Builder, where, state string, e *Error, color bool) {
	if e == nil {
		return
	}
	message := terminal.Plain(e.Message)
	if message == "" {
		message = "the error is shown to administrators and members of pg_monitor"
	}
	if e.SQLState != "" {
		message += " (" + terminal.Plain(e.SQLState) + ")"
	}
	fmt.Fprintf(b, "\n%s, %s: %s\n", where, colored(state, color), message)
	if e.Hint != "" {
		fmt.Fprintf(b, "  hint: %s\n", terminal.Plain(e.Hint))
	}
}

func (r *Report) writeNodes(b *strings.Builder, color bool) {
	w := newTable("database", "node", "health", "for", "latency", "clock", "version", "shipping", "retrying", "stopped", "reason")
	alignRight(w, 4, 5, 6, 8, 9, 10)
	for i := range r.Databases {
		d := &r.Databases[i]
		for j := range d.Nodes {
			n := &d.Nodes[j]
			since := "-"
			if n.Since != nil {
				since = span(d.ReadAt.Sub(*n.Since))
			}
			w.AppendRow(table.Row{terminal.Plain(d.Name), terminal.Plain(n.Name), known(n.State, func(s string) string { return colored(terminal.Plain(s), color) }),
				since, known(n.LatencySeconds, seconds), known(n.ClockOffsetSeconds, seconds), known(n.ServerVersion, terminal.Plain),
				n.Shipping, n.Retrying, n.Stopped, plainOr(n.Reason)})
		}
	}
	writeTable(b, w)
}

func (r *Report) writeQueues(b *strings.Builder) {
	w := newTable("database", "queue", "extension")
	alignRight(w, 2)
	for i := range r.Databases {
		if d := &r.Databases[i]; d.Queue != nil {
			w.AppendRow(table.Row{terminal.Plain(d.Name), size(d.Queue.Bytes), terminal.Plain(d.Version)})
		}
	}
	writeTable(b, w)
}

// known lays out a value, or - for one that is not known.
func known[T any](value *T, layout func(T) string) string {
	if value == nil {
		return "-"
	}
	return layout(*value)
}

func plainOr(text *string) string {
	if text == nil {
		return ""
	}
	return terminal.Plain(*text)
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }

// span is a duration in its two largest units.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d == 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour-time.Second:
		return d.Round(time.Second).String()
	case d < 24*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func retry(at *time.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	if left := at.Sub(now); left > 0 {
		return "in " + span(left)
	}
	return "now"
}

func colored(state string, color bool) string {
	if !color {
		return state
	}
	switch state {
	case "streaming", "copying", "up":
		return text.FgGreen.Sprint(state)
	case "retrying", "degraded", "standby":
		return text.FgYellow.Sprint(state)
	case "stopped", "needs_resync", "down", "unreachable":
		return text.FgRed.Sprint(state)
	}
	return state
}
