package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// startSlowCopy is startReplica with a table of some 14 MB whose copy takes a while,
// at a rate of so many kB a second. Nobody copies it yet.
func startSlowCopy(t *testing.T, rate int, options string, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startReplica(t, opts...)
	r.onBoth("CREATE TABLE item (id int PRIMARY KEY, n int, filler text); CREATE TABLE other (id int PRIMARY KEY, v text)")
	r.onSource("INSERT INTO item SELECT i, i, repeat('f', 200) FROM generate_series(1, 60000) i")
	r.add("default", "item", "other")
	r.onSource("SELECT courier.create_subscription($1, $2, options => $3::text::jsonb)", subscription, targetNode,
		fmt.Sprintf(`{"copy_rate": %d%s}`, rate, options))
	return r
}

// setRate changes the rate; no number is no limit.
func (r *replica) setRate(rate string) {
	r.t.Helper()
	r.onSource("SELECT courier.alter_subscription_options($1, $2::text::jsonb)", subscription, `{"copy_rate": `+rate+`}`)
}

// itemCopy is the row of copy_status of that table.
type itemCopy struct {
	State        string
	Done, Total  int64
	Rows         int64
	Bytes, Whole int64
	Rate         float64
	Left         float64
	Noted        float64
}

func (r *replica) itemCopy() itemCopy {
	r.t.Helper()
	var c itemCopy
	text := r.sourceValue(`SELECT coalesce((SELECT json_build_object('State', state, 'Done', chunks_done, 'Total', chunks_total, 'Rows', rows_copied,
		'Bytes', bytes_copied, 'Whole', bytes_total, 'Rate', coalesce(bytes_per_second, 0), 'Left', coalesce(extract(epoch FROM time_left), 0),
		'Noted', extract(epoch FROM updated_at)) FROM courier.copy_status WHERE table_name = 'item'), '{}')`)
	require.NoError(r.t, json.Unmarshal([]byte(text), &c), text)
	return c
}

// While a table is copied it is told how far it is, how fast it goes and how long
// the rest takes: in the view, in the metrics, by `courier status` and `courier copy`.
// A sidecar that takes over measures its own pace.
func TestCopyProgress(t *testing.T) {
	r := startSlowCopy(t, 3000, "")
	courier := r.startSidecar()
	var seen itemCopy
	eventually(t, "a pace", func() bool {
		seen = r.itemCopy()
		require.NotEqual(t, "copied", seen.State, "the copy was too quick to be seen")
		return seen.State == "copying" && seen.Left > 0
	})
	require.Positive(t, seen.Done)
	require.Less(t, seen.Done, seen.Total)
	require.Less(t, seen.Bytes, seen.Whole)
	require.InDelta(t, 60000*float64(seen.Bytes)/float64(seen.Whole), float64(seen.Rows), 6000, "rows in the chunks done: %+v", seen)
	require.InDelta(t, 14e6, float64(seen.Whole), 4e6, "size of the table")
	requirePace(t, seen, 3000)
	courier.kill9()

	r.setRate("400")
	listen := freeAddress(t)
	courier = r.startSidecar("--listen", listen)
	before := r.itemCopy()
	eventually(t, "the pace of another sidecar", func() bool {
		seen = r.itemCopy()
		return seen.State == "copying" && seen.Done > before.Done && seen.Rate > 0
	})
	requirePace(t, seen, 400)
	require.Greater(t, seen.Left, 1.0)

	lines := r.command("copy", subscription)
	var told []byte
	ended := make(chan error, 1)
	go func() {
		var err error
		told, err = lines.CombinedOutput()
		ended <- err
	}()
	report, err := r.command("status").Output()
	require.NoError(t, err)
	require.Regexp(t, `item .* copying .* \d+ % .*[KM]iB/s`, string(report))
	metric := regexp.MustCompile(`(?m)^courier_copy_(\w+)\{[^}]*subscription="to_eu"[^}]*\} (\S+)$`)
	values := make(map[string]float64)
	eventually(t, "the metrics", func() bool {
		for _, found := range metric.FindAllStringSubmatch(metricsAt(t, listen), -1) {
			values[found[1]], err = strconv.ParseFloat(found[2], 64)
			require.NoError(t, err)
		}
		return values["bytes_per_second"] > 0
	})
	require.EqualValues(t, 1, values["tables"])
	require.EqualValues(t, seen.Whole, values["total_bytes"])
	require.GreaterOrEqual(t, values["bytes"], float64(seen.Bytes))
	require.GreaterOrEqual(t, values["rows"], float64(seen.Rows))

	r.setRate("null")
	require.NoError(t, <-ended, "%s", told)
	require.Regexp(t, `public\.item: copying, \d+ of \d+ chunks, \d+ rows, [0-9.]+ [KM]iB/s, \w+ left`, string(told))
	require.Contains(t, string(told), "public.item: copied")
	r.wait()
	r.requireEqual("item")
	require.Equal(t, itemCopy{State: "copied", Rows: 60000}, itemCopy{State: r.itemCopy().State, Rows: r.itemCopy().Rows})
	courier.stop()
}

// requirePace requires that what is told of the pace is about the limit in kB a second,
// and that the rest takes as long as it does at that pace.
func requirePace(t *testing.T, seen itemCopy, limit float64) {
	t.Helper()
	require.Less(t, seen.Rate, 3*1024*limit, "%+v", seen)
	require.Greater(t, seen.Rate, 1024*limit/10, "%+v", seen)
	require.InDelta(t, float64(seen.Whole-seen.Bytes)/seen.Rate, seen.Left, 1, "%+v", seen)
}
