package ship

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/session"
)

func qualified(table *Table) string { return identifier(table.Schema) + "." + identifier(table.Name) }

// copyTurn lists the tables that an epoch works on: those that are partial, and as
// many that are pending as may begin; parents of foreign keys first.
func (s *Shipper) copyTurn() []*Table {
	if s.copying.paused {
		return nil
	}
	partial, pending := s.inOrder(s.catalog.partial), s.inOrder(s.copying.pending)
	if !s.link.Replica && s.catalog.circular {
		return append(partial, pending...) // in one transaction
	}
	if !s.link.Replica {
		// Foreign keys act on the node: children wait until their parents are whole.
		rank := -1
		for _, table := range append(slices.Clone(partial), pending...) {
			if r := s.catalog.ranks[table.OID]; rank < 0 || r < rank {
				rank = r
			}
		}
		pending = slices.DeleteFunc(pending, func(t *Table) bool { return s.catalog.ranks[t.OID] > rank })
	}
	return append(partial, pending[:min(len(pending), max(mostBegun-len(partial), 1))]...)
}

// inOrder lists tables, parents of foreign keys first.
func (s *Shipper) inOrder(oids map[uint32]bool) []*Table {
	tables := make([]*Table, 0, len(oids))
	for oid := range oids {
		tables = append(tables, s.catalog.tables[oid])
	}
	slices.SortFunc(tables, func(a, b *Table) int {
		return cmp.Or(cmp.Compare(s.catalog.ranks[a.OID], s.catalog.ranks[b.OID]),
			strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
	})
	return tables
}

// requireUnwritten refuses to copy tables that the session's own transaction may have
// written to: it would see rows that are never committed. Its locks tell, those of
// ALTER TABLE and TRUNCATE too.
func (s *Shipper) requireUnwritten(ctx context.Context) error {
	var oids []string
	for _, waiting := range []map[uint32]bool{s.copying.pending, s.catalog.partial} {
		for oid := range waiting {
			oids = append(oids, strconv.FormatUint(uint64(oid), 10))
		}
	}
	table, written, err := session.Value(ctx, s.session, `SELECT t.oid::pg_catalog.regclass
		FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t (oid)
		CROSS JOIN LATERAL (SELECT t.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(t.oid::pg_catalog.regclass)) AS p (oid)
		JOIN pg_catalog.pg_locks AS l ON l.relation = p.oid
		JOIN pg_catalog.pg_database AS d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
		WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
		  AND l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
		ORDER BY 1 LIMIT 1`, "{"+strings.Join(oids, ",")+"}")
	if err != nil {
		return fmt.Errorf("look for locks on tables to be copied: %w", err)
	}
	if written {
		return &UncommittedError{Subscription: s.name, Table: table}
	}
	return nil
}
