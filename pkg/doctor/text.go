package doctor

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/pg-courier/pg_courier/pkg/terminal"
)

// Text lays a report out for people: what was found by place, the worst first,
// then how many of each. Checks that found nothing are listed only with all.
func (r *Report) Text(all, color bool) string {
	var b strings.Builder
	type place struct{ database, node string }
	var places []place
	found := make(map[place][]*Finding)
	for i := range r.Findings {
		f := &r.Findings[i]
		at := place{f.Database, f.Node}
		if f.Severity == OK && !all {
			continue
		}
		if found[at] == nil {
			places = append(places, at)
		}
		found[at] = append(found[at], f)
	}
	for _, at := range places {
		title := "settings"
		if at.database != "" {
			title = "database " + terminal.Plain(at.database)
		}
		if at.node != "" {
			title += ", node " + terminal.Plain(at.node)
		}
		fmt.Fprintf(&b, "%s\n\n", title)
		for severity := Error; severity >= OK; severity-- {
			for _, f := range found[at] {
				if f.Severity == severity {
					f.write(&b, color)
				}
			}
		}
		b.WriteString("\n")
	}
	b.WriteString(r.summary(color))
	return b.String()
}

func (f *Finding) write(b *strings.Builder, color bool) {
	fmt.Fprintf(b, "  %s%s %s: %s\n", f.Severity.colored(color), strings.Repeat(" ", len("warning")-len(f.Severity.String())),
		f.Check, f.about()+terminal.Plain(f.Message))
	const indent = "          "
	if f.Why != "" {
		fmt.Fprintf(b, "%s%s\n", indent, terminal.Plain(f.Why))
	}
	if f.Remedy == "" {
		return
	}
	switch f.RunOn {
	case OnSource:
		fmt.Fprintf(b, "%son the source:\n", indent)
	case OnNode:
		fmt.Fprintf(b, "%son the node:\n", indent)
	}
	for line := range strings.SplitSeq(f.Remedy, "\n") {
		mark := ""
		if f.RunOn != "" {
			mark = "  "
		}
		fmt.Fprintf(b, "%s%s%s\n", indent, mark, terminal.Plain(line))
	}
}

// about names the table and the subscription.
func (f *Finding) about() string {
	switch {
	case f.Table != "":
		return "table " + terminal.Plain(f.Table) + ": "
	case f.Subscription != "":
		return terminal.Plain(f.Subscription) + ": "
	}
	return ""
}

func (r *Report) summary(color bool) string {
	var parts []string
	for severity := Error; severity >= OK; severity-- {
		name, count := severity.String(), r.Counts[severity.String()]
		if count != 1 && (severity == Error || severity == Warning) {
			name += "s"
		}
		part := fmt.Sprintf("%d %s", count, name)
		if count > 0 && color {
			part = strings.Replace(part, severity.String(), severity.colored(color), 1)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ") + "\n"
}

func (s Severity) colored(color bool) string {
	if !color {
		return s.String()
	}
	return [...]text.Color{text.FgGreen, text.FgBlue, text.FgYellow, text.FgRed}[s].Sprint(s.String())
}
