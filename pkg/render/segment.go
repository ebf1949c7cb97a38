package render

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

// ranked is a table of a segment with where it goes.
type ranked struct {
	table  *batch.Table
	target *Target
	rank   int
}

// Segment appends a segment's statements in the order package batch demands.
// It returns what Targets returns, or a *NoKeyError.
func (s *Script) Segment(segment *batch.Segment, targets Targets, options *Options) error {
	for i := range segment.Truncates {
		truncate := &segment.Truncates[i]
		info := Statement{Op: change.Truncate, Tx: truncate.Tx, Change: -1}
		if err := s.truncate(truncate, info, targets); err != nil {
			return err
		}
	}
	if err := s.sort(segment.Tables, targets, options); err != nil {
		return err
	}
	defer func() { clear(s.sorted) }() // it keeps no rows alive
	for _, r := range slices.Backward(s.sorted) {
		if r.target.filter.Allows(change.Delete) {
			s.deletes(r.target, r.table.Deletes, r.table.Unsure, options.CheckUpdates && options.Policy == Error)
		}
	}
	for _, r := range s.sorted {
		for i := range r.table.Updates {
			if !r.target.filter.Allows(change.Update) {
				continue
			}
			if err := s.updates(r.target, &r.table.Updates[i], options.CheckUpdates); err != nil {
				return err
			}
		}
	}
	for _, r := range s.sorted {
		if r.target.filter.Allows(change.Insert) {
			s.inserts(r.target, r.table.Inserts, change.Insert)
		}
		if r.target.filter.Allows(change.Upsert) {
			s.inserts(r.target, r.table.Upserts, change.Upsert)
		}
	}
	for _, r := range s.sorted {
		for i := range r.table.Ordered {
			ordered := &r.table.Ordered[i]
			if err := s.ordered(r.target, &ordered.Change, ordered.Tx, options); err != nil {
				return err
			}
		}
	}
	s.events(segment.Events, options)
	return nil
}

// sort fills s.sorted with the wanted tables, parents first.
func (s *Script) sort(tables []*batch.Table, targets Targets, options *Options) error {
	clear(s.sorted)
	s.sorted = s.sorted[:0]
	for _, table := range tables {
		target, err := targets.Target(table.Relation)
		if err != nil {
			return err
		}
		if target == nil {
			continue
		}
		rank := 0
		if options.Rank != nil {
			rank = options.Rank(table.Relation)
		}
		s.sorted = append(s.sorted, ranked{table: table, target: target, rank: rank})
	}
	slices.SortStableFunc(s.sorted, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	return nil
}

func (s *Script) events(events []batch.Event, options *Options) {
	if len(events) == 0 {
		return
	}
	s.begin(Statement{Op: change.Event, Rows: len(events), Tx: events[0].Tx, Change: -1})
	if len(events) == 1 {
		s.event(events[0].Channel, events[0].Payload, options)
		return
	}
	s.write("INSERT INTO courier_target.event (subscription, channel, payload) SELECT ")
	s.text = appendLiteral(s.text, options.Subscription)
	s.write("::pg_catalog.uuid, pg_catalog.unnest('{")
	for i := range events {
		if i > 0 {
			s.text = append(s.text, ',')
		}
		s.text = appendElement(s.text, &change.Value{Kind: change.Text, Data: []byte(events[i].Channel)})
	}
	s.write("}'::pg_catalog.text[]), pg_catalog.unnest('{")
	for i := range events {
		if i > 0 {
			s.text = append(s.text, ',')
		}
		s.text = appendElement(s.text, &change.Value{Kind: change.Text, Data: events[i].Payload})
	}
	s.write("}'::pg_catalog.text[])")
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }
