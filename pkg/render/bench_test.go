package render

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/wire"
)

const benchRows = 5000

// benchTable is the table of the throughput target: int key, int, int, text,
// timestamptz, numeric.
func benchTable() (*change.Relation, *Table) {
	relation := &change.Relation{Shape: 7, OID: 7, Schema: "public", Name: "t", Identity: 'd'}
	table := &Table{Schema: "public", Name: "t"}
	for i, typ := range []string{"integer", "integer", "integer", "text", "timestamp with time zone", "numeric"} {
		name := fmt.Sprintf("c%d", i)
		relation.Columns = append(relation.Columns, change.Column{Name: name, Key: i == 0})
		table.Columns = append(table.Columns, Column{Name: name, Type: typ, Direct: true})
	}
	return relation, table
}

func benchRow(i int) []change.Value {
	row := make([]change.Value, 6)
	for c, s := range []string{
		fmt.Sprint(100000 + i), fmt.Sprint(i % 977), fmt.Sprint(i * 7), fmt.Sprintf("some text of row %d", i),
		fmt.Sprintf("2024-05-01 12:%02d:56.789+00", i%60), fmt.Sprintf("%d.%02d", i, i%100),
	} {
		row[c] = change.Value{Kind: change.Text, Data: []byte(s)}
	}
	return row
}

type oneTarget struct{ target *Target }

func (o oneTarget) Target(*change.Relation) (*Target, error) { return o.target, nil }

func BenchmarkRender(b *testing.B) {
	relation, table := benchTable()
	target, err := Compile(relation, table, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, op := range []change.Op{change.Insert, change.Update, change.Delete} {
		b.Run(op.String(), func(b *testing.B) {
			f := batch.New()
			for i := range benchRows {
				c := change.Change{Op: op, Relation: relation, New: benchRow(i)}
				if op == change.Delete {
					c.Old, c.New = c.New, nil
				}
				f.Add(&c, i)
			}
			segments := f.Segments()
			var s Script
			b.ReportAllocs()
			for b.Loop() {
				s.Reset()
				if err := s.Segment(&segments[0], oneTarget{target}, &Options{CheckUpdates: true}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(s.Len())/benchRows, "bytes/row")
		})
	}
}

type oneShape struct{ relation *change.Relation }

func (o oneShape) Shape(uint32) (*change.Relation, error) { return o.relation, nil }

// BenchmarkPipeline decodes, folds and renders, as one core does it.
func BenchmarkPipeline(b *testing.B) {
	relation, table := benchTable()
	target, err := Compile(relation, table, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, op := range []change.Op{change.Insert, change.Update} {
		b.Run(op.String(), func(b *testing.B) {
			var chunks [][]byte
			var chunk []byte
			for i := range benchRows {
				m := binary.BigEndian.AppendUint32([]byte{byte(op)}, 7)
				m = append(m, 'N')
				m = binary.BigEndian.AppendUint16(m, 6)
				for _, v := range benchRow(i) {
					m = append(m, 't')
					m = binary.BigEndian.AppendUint32(m, uint32(len(v.Data)))
					m = append(m, v.Data...)
				}
				chunk = binary.BigEndian.AppendUint32(chunk, uint32(len(m)))
				if chunk = append(chunk, m...); len(chunk) > 8000 || i == benchRows-1 {
					chunks = append(chunks, chunk)
					chunk = nil
				}
			}
			d := wire.NewDecoder(oneShape{relation})
			f := batch.New()
			var s Script
			b.ReportAllocs()
			for b.Loop() {
				d.Recycle()
				f.Reset()
				s.Reset()
				for i, chunk := range chunks {
					if err := d.Decode(chunk, func(c change.Change) error { f.Add(&c, i); return nil }); err != nil {
						b.Fatal(err)
					}
				}
				for _, segment := range f.Segments() {
					if err := s.Segment(&segment, oneTarget{target}, &Options{CheckUpdates: true}); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
