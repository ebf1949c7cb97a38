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
func (s *Script) truncate(truncate *batch.Truncate, info Statement, targets Targets) error {
	begun := false
	for _, relation := range truncate.Relations {
		t, err := targets.Target(relation)
		if err != nil {
			return err
		}
		if t == nil || !t.filter.Allows(change.Truncate) {
			continue
		}
		info.Relation = relation
		if truncate.Where != "" {
			s.begin(info)
			s.write("DELETE FROM ", t.only)
			s.text = append(s.text, t.name...)
			s.write(" WHERE ", truncate.Where)
			return nil
		}
		if begun {
			s.write(", ")
		} else {
			s.begin(info)
			s.write("TRUNCATE TABLE ")
			begun = true
		}
		s.write(t.only)
		s.text = append(s.text, t.name...)
	}
	if begun && truncate.Restart {
		s.write(" RESTART IDENTITY")
	}
	if begun && truncate.Cascade {
		s.write(" CASCADE")
	}
	return nil
}
