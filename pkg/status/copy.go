package status

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/pg-courier/pg_courier/pkg/terminal"
)

// Copy is a row of courier.copy_status: how far the copy of a table is.
type Copy struct {
	Subscription   string   `json:"subscription"`
	Schema         string   `json:"schema"`
	Table          string   `json:"table"`
	State          string   `json:"state"`
	ChunksDone     int64    `json:"chunks_done"`
	ChunksTotal    int64    `json:"chunks_total"`
	Rows           int64    `json:"rows"`
	Bytes          int64    `json:"bytes"`
	BytesTotal     int64    `json:"bytes_total"`
	BytesPerSecond *float64 `json:"bytes_per_second"`
	SecondsLeft    *float64 `json:"seconds_left"`
}

// CopyColumns gives a Copy as JSON, of a row c of courier.copy_status.
const CopyColumns = `pg_catalog.jsonb_build_object(
            'subscription', c.subscription_name, 'schema', c.schema_name, 'table', c.table_name, 'state', c.state,
            'chunks_done', c.chunks_done, 'chunks_total', c.chunks_total, 'rows', c.rows_copied,
            'bytes', c.bytes_copied, 'bytes_total', c.bytes_total, 'bytes_per_second', c.bytes_per_second,
            'seconds_left', EXTRACT(epoch FROM c.time_left))`

// Name is the table's name with its schema, fit for a terminal.
func (c *Copy) Name() string { return terminal.Plain(c.Schema) + "." + terminal.Plain(c.Table) }

// Left is how long it takes yet, for people.
func (c *Copy) Left() string { return known(c.SecondsLeft, seconds) }

// Rate is how fast it goes, for people.
func (c *Copy) Rate() string {
	return known(c.BytesPerSecond, func(rate float64) string { return size(int64(rate)) + "/s" })
}

// Share is how much of it is done, from 0 to 1.
func (c *Copy) Share() float64 {
	if c.ChunksTotal == 0 {
		return 0
	}
	return float64(c.ChunksDone) / float64(c.ChunksTotal)
}

func (r *Report) writeCopies(b *strings.Builder, color bool) {
	w := newTable("database", "subscription", "table", "copy", "done", "rows", "size", "rate", "left")
	alignRight(w, 5, 6, 7, 8, 9)
	for i := range r.Databases {
		d := &r.Databases[i]
		for j := range d.Copies {
			c := &d.Copies[j]
			w.AppendRow(table.Row{terminal.Plain(d.Name), terminal.Plain(c.Subscription), c.Name(), colored(terminal.Plain(c.State), color),
				fmt.Sprintf("%.0f %%", 100*c.Share()), humanize.Comma(c.Rows), size(c.BytesTotal), c.Rate(), c.Left()})
		}
	}
	writeTable(b, w)
}
