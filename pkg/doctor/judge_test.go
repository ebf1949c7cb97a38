package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/render"
)

func TestJudgeTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		local, encrypted bool
		mode             string
		want             Severity
	}{
		{true, false, "disable", OK},
		{true, false, "", OK},
		{false, false, "prefer", Warning},
		{false, false, "", Warning},
		{false, true, "", Warning},
		{false, true, "allow", Warning},
		{false, true, "prefer", Warning},
		{false, true, "require", Info},
		{false, true, "verify-ca", Info},
		{false, true, "verify-full", OK},
	} {
		got := OK
		if f := judgeTLS(c.local, c.encrypted, c.mode); f != nil {
			got = f.Severity
		}
		require.Equal(t, c.want, got, "%+v", c)
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr
	require.True(t, (&server{}).local(), "a Unix socket")
	require.True(t, (&server{Client: address("127.0.0.1"), Server: address("127.0.0.1")}).local())
	require.True(t, (&server{Client: address("::ffff:127.0.0.2"), Server: address("::1")}).local())
	require.True(t, (&server{Client: address("10.0.0.5"), Server: address("10.0.0.5")}).local())
	require.False(t, (&server{Client: address("10.0.0.5"), Server: address("10.0.0.6")}).local())
}

func TestJudgeClock(t *testing.T) {
	t.Parallel()
	require.Empty(t, judgeClock(900*time.Millisecond, time.Second))
	require.Empty(t, judgeClock(-time.Second, time.Second))
	require.Contains(t, judgeClock(90*time.Second, time.Second)[0].Message, "1m30s ahead of")
	require.Contains(t, judgeClock(-1500*time.Millisecond, time.Second)[0].Message, "1.5s behind")
}

func TestJudgeEncoding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source, node string
		want         int
	}{
		{"UTF8", "UTF8", 0}, {"LATIN1", "UTF8", 0}, {"LATIN1", "LATIN1", 0},
		{"UTF8", "LATIN1", 1}, {"LATIN1", "LATIN9", 1}, {"SQL_ASCII", "SQL_ASCII", 1}, {"SQL_ASCII", "UTF8", 1}, {"UTF8", "SQL_ASCII", 1},
	} {
		require.Len(t, judgeEncoding(c.source, c.node), c.want, "%+v", c)
	}
}

func TestJudgeVersion(t *testing.T) {
	t.Parallel()
	severity := func(number int) Severity {
		if findings := (&server{VersionNum: number}).version(); len(findings) > 0 {
			return findings[0].Severity
		}
		return OK
	}
	require.Equal(t, Error, severity(130020))
	require.Equal(t, OK, severity(140000))
	require.Equal(t, OK, severity(180004))
	require.Equal(t, Warning, severity(190000))
}

func TestStandbys(t *testing.T) {
	t.Parallel()
	standby := server{InRecovery: true}
	require.Equal(t, Error, (&source{server: standby}).writable()[0].Severity)
	require.Contains(t, (&nodeExamination{server: standby, of: &node{Quoted: "courier_eu"}}).writable()[0].Remedy, "ALTER SERVER courier_eu")
}

func TestServerOptions(t *testing.T) {
	t.Parallel()
	judge := func(options map[string]string) []Finding {
		return (&nodeExamination{of: &node{Quoted: "s", Options: options}}).serverOptions()
	}
	require.Empty(t, judge(map[string]string{"service": "x"}))
	socket := judge(map[string]string{"host": "/run"})
	require.Equal(t, "ALTER SERVER s OPTIONS (ADD connect_timeout '10');", socket[0].Remedy)
	require.Contains(t, judge(map[string]string{"host": "h"})[0].Remedy, "ADD tcp_user_timeout '30000'")
}

func TestPreload(t *testing.T) {
	t.Parallel()
	judge := func(setting string) []Finding {
		return (&source{installation: installation{Preloaded: &setting}}).preload()
	}
	require.Empty(t, judge("pg_courier"))
	require.Empty(t, judge(`pg_stat_statements, "pg_courier"`))
	require.Empty(t, (&source{}).preload(), "not known")
	require.Contains(t, judge("")[0].Remedy, "shared_preload_libraries = 'pg_courier';")
	require.Contains(t, judge("pg_stat_statements,auto_explain")[0].Remedy, "= 'pg_stat_statements', 'auto_explain', 'pg_courier';")
}

func TestFits(t *testing.T) {
	t.Parallel()
	categories := map[string]string{"text": "S", "character varying": "S", "character": "S", "boolean": "B", "inet": "I", "cidr": "I",
		"timestamp with time zone": "D", "timestamp without time zone": "D", "date": "D", "uuid": "U", "json": "U", "jsonb": "U",
		"public.mood": "E", "public.pace": "E", "bit": "V", "bit varying": "V", "integer[]": "A", "bigint[]": "A"}
	column := func(typ string) *column {
		base, _ := limits(typ)
		category := categories[base]
		if category == "" {
			category = "N"
		}
		return &column{Type: typ, Base: base, Category: category}
	}
	for _, c := range []struct {
		source, node string
		want         Severity
	}{
		{"integer", "integer", OK},
		{"integer", "bigint", OK},
		{"smallint", "numeric", OK},
		{"bigint", "integer", Warning},
		{"integer", "numeric(5,0)", Warning},
		{"bigint", "double precision", Warning},
		{"integer", "double precision", OK},
		{"real", "double precision", OK},
		{"numeric", "numeric(10,2)", Warning},
		{"numeric(10,2)", "numeric", OK},
		{"numeric(10,2)", "numeric(12,4)", OK},
		{"numeric(10,2)", "numeric(10,4)", Warning},
		{"numeric(10,2)", "numeric(12,1)", Warning},
		{"numeric(5)", "numeric(5,0)", OK},
		{"character varying(20)", "character varying(20)", OK},
		{"character varying(20)", "character varying(10)", Warning},
		{"character varying(20)", "character varying(30)", OK},
		{"character varying(20)", "text", OK},
		{"character varying", "character varying(10)", Warning},
		{"text", "character varying", OK},
		{"text", "character varying(10)", Warning},
		{"character(3)", "character varying(5)", OK},
		{"integer", "text", OK},
		{"integer", "character varying(4)", Warning},
		{"text", "integer", Error},
		{"boolean", "integer", Error},
		{"uuid", "text", OK},
		{"text", "uuid", Error},
		{"timestamp(3) with time zone", "timestamp with time zone", OK},
		{"timestamp with time zone", "timestamp(3) with time zone", Warning},
		{"timestamp with time zone", "timestamp without time zone", Warning},
		{"date", "timestamp without time zone", OK},
		{"jsonb", "json", OK},
		{"json", "jsonb", Warning},
		{"public.mood", "text", OK},
		{"public.mood", "public.pace", Warning},
		{"text", "public.mood", Warning},
		{"bit(3)", "bit(4)", Warning},
		{"bit varying(3)", "bit varying(4)", OK},
		{"integer[]", "bigint[]", Warning},
		{"cidr", "inet", OK},
	} {
		got, why := fits(column(c.source), column(c.node))
		require.Equal(t, c.want, got, "%s to %s", c.source, c.node)
		require.Equal(t, c.want == OK, why == "")
	}
	for _, odd := range []string{"public.geometry(Point,4326)", `public."a(1)b"`, "interval(3)", "timestamp(3) with time zone"} {
		base, numbers := limits(odd)
		require.Equal(t, strings.Contains(odd, "(3)"), numbers != nil, "%s is %s %v", odd, base, numbers)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	report := newReport("1", []Finding{
		{Check: "a", Severity: OK, Database: "d", Message: "well"},
		{Check: "b", Severity: Warning, Database: "d", Node: "n", Table: "t\x1b[2J", Message: "m", Why: "w.", Remedy: "x;\ny;", RunOn: OnNode},
		{Check: "c", Severity: Error, Database: "d", Node: "n", Subscription: "s", Message: "e", Remedy: "do"},
	})
	require.Equal(t, `database d, node n

  error   c: s: e
          do
  warning b: table t`+"\uFFFD"+`[2J: m
          w.
          on the node:
            x;
            y;

1 error, 1 warning, 0 info, 1 ok
`, report.Text(false, false))
	require.Contains(t, report.Text(true, false), "  ok      a: well\n")
	require.Contains(t, report.Text(false, true), "\x1b[31merror\x1b[0m")
	require.Equal(t, Seriously, report.ExitCode())
	require.Equal(t, Ailing, newReport("", []Finding{{Severity: Warning}}).ExitCode())
	require.Equal(t, Healthy, newReport("", []Finding{{Severity: Info}}).ExitCode())
}

// An update that moves a row out of a row filter is sent as a delete.
func TestPrivilegesOfRowFilters(t *testing.T) {
	t.Parallel()
	p := &pair{filter: &render.Filter{Update: true}, role: "r", node: &table{Quoted: "shop.item", Usage: true, Lacking: []string{"DELETE"}}}
	require.Empty(t, p.privileges())
	p.rowFiltered = true
	require.Len(t, p.privileges(), 1)
}
