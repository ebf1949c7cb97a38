package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// What Prometheus adds to the labels of every series.
var targetLabels = []string{"instance", "job"}

// TestDashboard checks that each query of the dashboard, and each of its
// variables, is PromQL that names metrics, labels and values that exist.
func TestDashboard(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../deploy/grafana/courier.json")
	require.NoError(t, err)
	var dashboard struct {
		SchemaVersion int    `json:"schemaVersion"`
		Title         string `json:"title"`
		UID           string `json:"uid"`
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID            int
			Type, Title   string
			GridPos       struct{ H, W, X, Y int }
			Datasource    struct{ Type, UID string }
			Targets       []struct{ Expr, RefID, LegendFormat string }
			FieldConfig   json.RawMessage
			PluginVersion string
			Options       map[string]any
			Description   string
			Collapsed     bool
		}
	}
	require.NoError(t, json.Unmarshal(content, &dashboard))
	require.GreaterOrEqual(t, dashboard.SchemaVersion, 39, "Grafana 11 and later")
	require.NotEmpty(t, dashboard.Title)
	require.NotEmpty(t, dashboard.UID)

	scraped := populated(t).scrape(t)
	s := newSeries(scraped)
	variables := map[string]string{"__rate_interval": "5m", "datasource": "x"}
	labelValues := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range dashboard.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		call := labelValues.FindStringSubmatch(v.Definition)
		require.NotNil(t, call, "variable %s: %s", v.Name, v.Definition)
		s.check(t, "variable "+v.Name, fill(t, variables, call[1]), call[2])
		variables[v.Name] = ".*"
	}
	ids, used := make(map[int]bool), make(map[string]bool)
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			var legend []string
			for _, name := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				legend = append(legend, name[1])
			}
			for _, name := range s.check(t, "panel "+p.Title, fill(t, variables, target.Expr), legend...) {
				used[name] = true
			}
		}
	}
	for name := range scraped.families {
		if strings.HasPrefix(name, "courier_subscription_") && name != "courier_subscription_info" {
			require.True(t, used[name], "the dashboard does not show %s", name)
		}
	}
}

// TestAlerts does the same for the alert rules.
func TestAlerts(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../deploy/prometheus/courier.rules.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(content)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	manual, err := os.ReadFile("../../docs/monitoring.md")
	require.NoError(t, err)

	s := newSeries(populated(t).scrape(t))
	var count int
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			count++
			var inText []string
			for _, text := range rule.Annotations {
				for _, name := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
					inText = append(inText, name[1])
				}
			}
			s.check(t, rule.Alert, rule.Expr, inText...)
			require.NotEmpty(t, rule.For, rule.Alert)
			require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
			require.Contains(t, string(manual), "`"+rule.Alert+"`", "docs/monitoring.md explains each alert")
		}
	}
	require.NotZero(t, count)
}

// TestManual checks that docs/monitoring.md has every metric, with its type, and
// no other, and that the queries in it work.
func TestManual(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/monitoring.md")
	require.NoError(t, err)
	scraped := populated(t).scrape(t)
	documented := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(courier_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(content), -1) {
		documented[row[1]] = row[2]
	}
	present := make(map[string]string)
	for name, family := range scraped.families {
		if strings.HasPrefix(name, "courier_") {
			present[name] = strings.ToLower(family.GetType().String())
		}
	}
	require.Equal(t, present, documented)

	_, queries, found := strings.Cut(string(content), "Some queries by hand:\n\n```\n")
	require.True(t, found)
	queries, _, _ = strings.Cut(queries, "\n```")
	for query := range strings.SplitSeq(queries, "\n\n") {
		newSeries(scraped).check(t, "docs/monitoring.md", query)
	}
}

// series are what a scrape of everything gives, by name as PromQL has it.
type series map[string][]*dto.Metric

func newSeries(p page) series {
	s := make(series)
	for name, family := range p.families {
		s[name] = family.GetMetric()
		if family.GetType() == dto.MetricType_HISTOGRAM {
			s[name+"_bucket"], s[name+"_count"], s[name+"_sum"] = s[name], s[name], s[name]
		}
	}
	return s
}

// has says whether a series of that name may have that label.
func (s series) has(name, label string) bool {
	if slices.Contains(targetLabels, label) || label == "le" && strings.HasSuffix(name, "_bucket") {
		return true
	}
	return slices.ContainsFunc(s[name][0].GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label })
}

// check parses an expression and looks up all that it names; shown are labels
// that a legend or a text takes from its result. It returns the metrics' names, a
// histogram's without suffix.
func (s series) check(t *testing.T, where, expression string, shown ...string) []string {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	require.NoError(t, err, "%s: %s", where, expression)
	var names []string
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			require.NotEmpty(t, s[n.Name], "%s: there is no metric %s", where, n.Name)
			names = append(names, strings.TrimSuffix(n.Name, "_bucket"))
			require.True(t, slices.ContainsFunc(s[n.Name], func(m *dto.Metric) bool { return selects(n.LabelMatchers, m) }),
				"%s: nothing matches %s", where, n)
			for _, m := range n.LabelMatchers {
				s.requireAlternatives(t, where, n.Name, m)
			}
		case *parser.AggregateExpr:
			s.requireLabels(t, where, n, n.Grouping)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				s.requireLabels(t, where, n, n.VectorMatching.MatchingLabels)
				one := n.RHS // of the pair, the side that labels are taken from
				if n.VectorMatching.Card == parser.CardOneToMany {
					one = n.LHS
				}
				s.requireLabels(t, where, one, n.VectorMatching.Include)
			}
		}
		return nil
	})
	require.NotEmpty(t, names, "%s names no metric", where)
	s.requireLabels(t, where, expr, shown)
	return names
}

// requireLabels checks that every metric in an expression has these labels.
func (s series) requireLabels(t *testing.T, where string, expr parser.Expr, names []string) {
	t.Helper()
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok && s[v.Name] != nil {
			for _, name := range names {
				require.True(t, s.has(v.Name, name), "%s: %s has no label %s", where, v.Name, name)
			}
		}
		return nil
	})
}

// requireAlternatives checks that each of a|b|c is a value that exists.
func (s series) requireAlternatives(t *testing.T, where, metric string, m *labels.Matcher) {
	t.Helper()
	if m.Type != labels.MatchRegexp || !strings.Contains(m.Value, "|") {
		return
	}
	for _, value := range strings.Split(m.Value, "|") {
		one, err := labels.NewMatcher(labels.MatchEqual, m.Name, value)
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(s[metric], func(x *dto.Metric) bool { return selects([]*labels.Matcher{one}, x) }),
			"%s: no %s has %s=%q", where, metric, m.Name, value)
	}
}

func selects(matchers []*labels.Matcher, m *dto.Metric) bool {
	for _, matcher := range matchers {
		if matcher.Name == labels.MetricName {
			continue
		}
		i := slices.IndexFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == matcher.Name })
		if i < 0 || !matcher.Matches(m.GetLabel()[i].GetValue()) {
			return false
		}
	}
	return true
}

// fill puts values in the place of a dashboard's variables.
func fill(t *testing.T, variables map[string]string, text string) string {
	t.Helper()
	return regexp.MustCompile(`\$\{?(\w+)\}?`).ReplaceAllStringFunc(text, func(name string) string {
		value, ok := variables[strings.Trim(name, "${}")]
		require.True(t, ok, fmt.Sprintf("%s is not a variable of the dashboard", name))
		return value
	})
}
