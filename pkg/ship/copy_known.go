package ship

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// findUncopied notes which tables the target still has to get a copy of, or the
// rest of one. A dropped one that it has not got can't be copied any more: nothing
// of it is shipped.
func (s *Shipper) findUncopied(ctx context.Context) error {
	plans := s.copying.partial
	s.copying.reset()
	s.catalog.pending, s.catalog.partial = make(map[uint32]bool), make(map[uint32]bool)
	copied, begun, err := s.notedCopies(ctx)
	if err != nil {
		return err
	}
	s.settleCopies(copied)
	rows, err := s.session.Query(ctx, `SELECT t.relation::pg_catalog.oid, t.copy_name, t.on_existing, t.cancelled,
		EXISTS (SELECT FROM courier.copy_pause AS u WHERE u.subscription_id = t.subscription_id)
		FROM courier.subscription_table_copy AS t WHERE t.subscription_id = $1::pg_catalog.int4 AND t.wanted`+droppedCopies, strconv.Itoa(s.sub.ID))
	if err != nil {
		return fmt.Errorf("read which tables are to be copied to node %s: %w", s.sub.Node, err)
	}
	for _, row := range rows {
		number, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return fmt.Errorf("read which tables are to be copied to node %s: %w", s.sub.Node, err)
		}
		oid, name := uint32(number), string(row[1])
		if s.catalog.tables[oid] == nil {
			continue
		}
		s.copying.paused = s.copying.paused || string(row[4]) == "t"
		s.copying.names[oid], s.copying.policy[oid] = name, string(row[2])
		switch {
		case string(row[3]) == "t" && copied[oid] != name: // cancelled
			s.catalog.pending[oid] = true
			if begun[oid] == name {
				if err = s.link.Exec(ctx, s.rebuildIndexes(oid)); err != nil {
					return err
				}
			}
		case copied[oid] == name:
		case begun[oid] == name:
			s.setPartial(oid, plans[oid])
			s.copying.missed[oid] = true
		default: // one that was removed and added again has missed changes
			s.catalog.pending[oid], s.copying.pending[oid] = true, true
			_, s.copying.own[oid] = begun[oid] // its name is '' where the copy was given up
		}
	}
	if err = s.leaveDropped(ctx); err != nil {
		return err
	}
	return s.keepTied(ctx)
}

// droppedCopies adds to the tables of a subscription those that were dropped: their
// copies bear the same names.
const droppedCopies = `
	UNION ALL SELECT d.relation, d.added::pg_catalog.text || coalesce('#' || nullif(c.requests, 0), ''), 'error',
		coalesce(c.cancelled, false), false
	FROM courier.dropped_table AS d JOIN courier.subscription AS s ON s.subscription_id = d.subscription_id
	LEFT JOIN courier.copy_request AS c ON c.subscription_id = d.subscription_id AND c.relation = d.relation
		AND c.added::pg_catalog.text = d.added::pg_catalog.text
	WHERE d.subscription_id = $1::pg_catalog.int4 AND (s.copy_data OR c.requests > 0)`

// leaveDropped gives up the copies of tables that are no more.
func (s *Shipper) leaveDropped(ctx context.Context) error {
	for oid, table := range s.catalog.tables {
		if !table.Dropped {
			continue
		}
		delete(s.copying.names, oid)
		if s.catalog.partial[oid] {
			if err := s.link.Exec(ctx, s.forgetCopy(oid)); err != nil {
				return err
			}
		} else if !s.catalog.pending[oid] {
			continue // copied
		}
		s.log.Info("a table was dropped before it was copied", "subscription", s.name,
			"node", s.sub.Node, "table", table.Schema+"."+table.Name)
		s.setCopied(oid)
		delete(s.catalog.tables, oid)
	}
	return nil
}

// notedCopies reads which copies of tables the target notes as copied, and as copying.
func (s *Shipper) notedCopies(ctx context.Context) (copied, begun map[uint32]string, err error) {
	const noted = "SELECT relation, added, %t FROM courier_target.%s WHERE subscription = %s"
	key := literal(s.sub.ProgressKey)
	rows, err := s.link.Query(ctx, fmt.Sprintf(noted+" UNION ALL "+noted, true, "copied", key, false, "copying", key), 3)
	if err != nil {
		return nil, nil, err
	}
	copied, begun = make(map[uint32]string), make(map[uint32]string)
	for _, row := range rows {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("read what was copied to node %s: %w", s.sub.Node, err)
		}
		if string(row[2]) == "t" {
			copied[uint32(oid)] = string(row[1])
		} else {
			begun[uint32(oid)] = string(row[1])
		}
	}
	return copied, begun, nil
}

// errReplaced says that the subscription was dropped and another one created
// under its name: nothing of the old one's state may be used.
var errReplaced = errors.New("the subscription was replaced by another of the same name")
