package render

import (
	"strconv"

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
// Tables that wait for their copy are named too, if the target has them: others may
// refer to them, or they to others.
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
	command, options := append([]byte("TRUNCATE TABLE "), list...), ""
	if truncate.Restart {
		options += " RESTART IDENTITY"
	}
	if truncate.Cascade {
		options += " CASCADE"
	}
	if len(truncate.Uncopied) == 0 {
		s.text = append(append(s.text, command...), options...)
		return nil
	}
	s.write("SELECT courier_target.truncate_with(")
	s.text = appendLiteral(s.text, command)
	s.write(", ", "'", options, "', ARRAY[")
	for i, table := range truncate.Uncopied {
		if i > 0 {
			s.write(", ")
		}
		s.text = appendLiteral(s.text, appendName(nil, table.Schema, table.Name))
	}
	s.write("], ARRAY[")
	for i, table := range truncate.Uncopied {
		if i > 0 {
			s.write(", ")
		}
		s.write(strconv.FormatBool(table.KeepRows))
	}
	s.write("])")
	return nil
}
