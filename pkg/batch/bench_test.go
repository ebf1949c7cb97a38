package batch

import (
	"fmt"
	"testing"

	"github.com/pg-courier/pg_courier/pkg/change"
)

func benchRelation() *change.Relation {
	r := &change.Relation{Shape: 7, OID: 7, Schema: "public", Name: "t", Identity: 'd', Columns: make([]change.Column, 6)}
	r.Columns[0].Key = true
	return r
}

func BenchmarkFold(b *testing.B) {
	const rows = 5000
	relation := benchRelation()
	for _, op := range []change.Op{change.Insert, change.Update, change.Delete} {
		b.Run(op.String(), func(b *testing.B) {
			changes := make([]change.Change, rows)
			for i := range changes {
				row := make([]change.Value, 6)
				for c := range row {
					row[c] = change.Value{Kind: change.Text, Data: fmt.Appendf(nil, "%d", 100000*c+i*7919%rows)}
				}
				changes[i] = change.Change{Op: op, Relation: relation, New: row}
				if op == change.Delete {
					changes[i].Old, changes[i].New = row, nil
				}
			}
			f := New()
			b.ReportAllocs()
			for b.Loop() {
				f.Reset()
				for i := range changes {
					f.Add(&changes[i], i)
				}
				if len(f.Segments()) != 1 {
					b.Fatal("want one segment")
				}
			}
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
