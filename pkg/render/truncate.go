package render

import (
	"github.com/pg-courier/pg_courier/pkg/batch"
	"github.com/pg-courier/pg_courier/pkg/change"
)

// truncate appends a TRUNCATE of those of the tables that are wanted, or the
// DELETE of a partition's rows.
//
// Every table that was emptied on the source is named, those that CASCADE or
// inheritance brought in too, so neither is asked for: a table of the target that
// the source knows nothing of is never emptied. If a foreign key stands against
// that, the statement fails.
//
// What earlier changes have left to be checked by the commit is checked first:
// PostgreSQL does not truncate a table that waits for that. On the source they may
// have been transactions of their own.
func (s *Script) truncate(truncate *batch.Truncate, info Statement, targets Targets) error {
	var names [][]byte
	var list []byte
	for _, relation := range truncate.Relations {
		t, err := targets.Target(relation)
		if err != nil {
			return err
		}
		if t == nil || !t.filter.Allows(change.Truncate) {
			continue
		}
		if names == nil {
			info.Relation = relation
		}
		if truncate.Where != "" {
			s.begin(info)
			s.write("DELETE FROM ", t.only)
			s.text = append(s.text, t.name...)
			s.write(" WHERE ", truncate.Where)
			return nil
		}
		if names != nil {
			list = append(list, ", "...)
		}
		list = append(append(list, t.only...), t.name...)
		names = append(names, t.name)
	}
	if names == nil {
		return nil
	}
	s.begin(info)
	s.write("SELECT courier_target.check_deferred(ARRAY[")
	for i, name := range names {
		if i > 0 {
			s.write(", ")
		}
		s.text = appendLiteral(s.text, name)
	}
	s.write("]::pg_catalog.regclass[])")
	s.begin(info)
	s.write("TRUNCATE TABLE ")
	s.text = append(s.text, list...)
	if truncate.Restart {
		s.write(" RESTART IDENTITY")
	}
	if truncate.Cascade {
		s.write(" CASCADE")
	}
	return nil
}
