package ship

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// foreignKey is one on the node that refers to a table of the subscription. They
// are known while tables are to be copied and the node's foreign keys act, since
// the role may not set session_replication_role: to make room for a copy then
// reaches tables that the copy is not about.
type foreignKey struct {
	name          string
	parent        uint32 // OIDs here
	child         uint32 // 0 if the subscription has no such table
	childName     string // of the table on the node, quoted
	childOnly     bool   // it is an ordinary table
	childColumns  []string
	parentColumns []string
	onDelete      byte // confdeltype
	onUpdate      byte
}

// actions names what a foreign key does by itself, by confdeltype.
var actions = map[byte]string{'c': "CASCADE", 'n': "SET NULL", 'd': "SET DEFAULT"}

// askForeignKeys asks for the foreign keys that refer to some tables, or to their
// partitions, and act. It takes a list of values. Those that a partitioned table
// has at each partition are told once.
const askForeignKeys = `SELECT DISTINCT ON (p.schema, p.name, root.oid, columns.child, columns.parent)
	p.schema, p.name, f.conname, rn.nspname, root.relname,
	pg_catalog.format('%%I.%%I', rn.nspname, root.relname), root.relkind = 'r',
	columns.child, columns.parent, f.confdeltype, f.confupdtype
FROM (SELECT wanted.schema, wanted.name, c.oid
      FROM (VALUES %s) AS wanted (schema, name)
      JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema::pg_catalog.name
      JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name::pg_catalog.name) AS p
CROSS JOIN LATERAL (SELECT p.oid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree(p.oid) AS t) AS leaf (oid)
JOIN pg_catalog.pg_constraint AS f ON f.confrelid = leaf.oid AND f.contype = 'f'
JOIN pg_catalog.pg_class AS root ON root.oid = coalesce(pg_catalog.pg_partition_root(f.conrelid)::pg_catalog.oid, f.conrelid)
JOIN pg_catalog.pg_namespace AS rn ON rn.oid = root.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)::pg_catalog.text AS child,
           pg_catalog.json_agg(b.attname ORDER BY k.n)::pg_catalog.text AS parent
    FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey)) WITH ORDINALITY AS k (own, theirs, n)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.own
    JOIN pg_catalog.pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = k.theirs) AS columns
WHERE EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
              WHERE g.tgconstraint = f.oid AND g.tgrelid = f.confrelid AND g.tgenabled IN ('O', 'A'))
ORDER BY p.schema, p.name, root.oid, columns.child, columns.parent, f.conparentid, f.conname`

// loadForeignKeys reads them anew, if they matter.
func (s *Shipper) loadForeignKeys(ctx context.Context) error {
	s.catalog.foreign = nil
	if s.link.Replica || len(s.catalog.pending)+len(s.catalog.partial) == 0 {
		return nil
	}
	byName := make(map[tableName]uint32, len(s.catalog.tables))
	var names []string
	for oid, table := range s.catalog.tables {
		byName[tableName{table.Schema, table.Name}] = oid
		names = append(names, "("+literal(table.Schema)+", "+literal(table.Name)+")")
	}
	rows, err := s.link.Query(ctx, fmt.Sprintf(askForeignKeys, strings.Join(names, ", ")), 11)
	if err != nil {
		return fmt.Errorf("read the node's foreign keys: %w", err)
	}
	for _, row := range rows {
		f := foreignKey{name: string(row[2]), parent: byName[tableName{string(row[0]), string(row[1])}],
			child: byName[tableName{string(row[3]), string(row[4])}], childName: string(row[5]), childOnly: string(row[6]) == "t",
			onDelete: row[9][0], onUpdate: row[10][0]}
		if err = json.Unmarshal(row[7], &f.childColumns); err == nil {
			err = json.Unmarshal(row[8], &f.parentColumns)
		}
		if err != nil {
			return fmt.Errorf("read the node's foreign keys: %w", err)
		}
		s.catalog.foreign = append(s.catalog.foreign, f)
	}
	return nil
}

// copiedLater says that the table of a foreign key is copied as a whole once the
// one that it refers to is: what happens to its rows until then does no harm.
func (s *Shipper) copiedLater(f *foreignKey) bool {
	return s.copying.pending[f.child] && f.child != f.parent &&
		(s.catalog.circular || s.catalog.ranks[f.child] > s.catalog.ranks[f.parent])
}

// keepTied reads them for tables that have been found to be uncopied.
func (s *Shipper) keepTied(ctx context.Context) error {
	if err := s.loadForeignKeys(ctx); err != nil {
		return err
	}
	s.keep()
	return nil
}

// keep finds the tables that wait for a merge and whose changes go on being
// applied, as far as there are rows: foreign keys tie them to others of the
// subscription, whose changes would fail without theirs.
func (s *Shipper) keep() {
	s.catalog.kept = make(map[uint32]bool)
	for _, f := range s.catalog.foreign {
		if f.child == 0 || f.child == f.parent {
			continue
		}
		for _, oid := range []uint32{f.child, f.parent} {
			if s.copying.pending[oid] && s.onExisting(oid) == existingMerge && s.copying.left[oid] != s.copying.names[oid] {
				s.catalog.kept[oid] = true
				s.catalog.tables[oid].Filter.Partial = true
			}
		}
	}
}

// leave has a table wait without its changes, if one of them can't be applied: its
// copy brings them. It returns false if the table is none of those.
func (s *Shipper) leave(oid uint32, err error) bool {
	if !s.catalog.kept[oid] {
		return false
	}
	delete(s.catalog.kept, oid)
	s.copying.left[oid] = s.copying.names[oid] // and is not kept again by attaching
	s.deferred = nil
	s.log.Info("a change of a table that is to be merged can't be applied, and its changes are left to the merge", "subscription", s.name,
		"node", s.sub.Node, "table", s.catalog.tables[oid].Schema+"."+s.catalog.tables[oid].Name, "sqlstate", SQLState(err))
	return true
}

// leaveFailing does so where a statement has failed.
func (s *Shipper) leaveFailing(f *failure) bool {
	statement := f.piece.statement(f.completed)
	return statement != nil && statement.Relation != nil && s.leave(statement.Relation.OID, f.err)
}

// referred says that rows of other tables on the node may refer to those of a
// table, so that none of its rows may go for a moment.
func (s *Shipper) referred(oid uint32) bool {
	for i := range s.catalog.foreign {
		f := &s.catalog.foreign[i]
		if f.parent == oid && !(s.copying.pending[f.child] && s.onExisting(f.child) == existingError) {
			return true
		}
	}
	return false
}

// heldBy is a foreign key by which rows may refer to a table's whose own table is not
// copied later, or nil.
func (s *Shipper) heldBy(oid uint32) *foreignKey {
	for i := range s.catalog.foreign {
		if f := &s.catalog.foreign[i]; f.parent == oid && f.child != oid && !s.copiedLater(f) {
			return f
		}
	}
	return nil
}

// requireUnreferred refuses what would change rows of tables that are not copied
// after this one.
func (s *Shipper) requireUnreferred(ctx context.Context, table *Table, described *copydata.Table, byKey bool) error {
	policy := s.onExisting(table.OID)
	if policy == existingError {
		return nil
	}
	for i := range s.catalog.foreign {
		f := &s.catalog.foreign[i]
		if f.parent != table.OID || s.copiedLater(f) {
			continue
		}
		action, acts := actions[f.onDelete]
		what := "ON DELETE " + action
		switch {
		case !byKey: // its rows are deleted, and come again in the same transaction
			acts = acts && f.child != f.parent
		case policy == existingTruncate: // a change of the other table would miss the row that it refers to
			if acts = f.child != f.parent && (acts || s.catalog.tables[f.child] != nil); action == "" {
				what = "the table is not copied once more"
			}
		case f.child == f.parent:
			acts = acts && f.onDelete != 'c'
		default: // rows that go have none that refer to them on the source
			action, acts = actions[f.onUpdate]
			what = "ON UPDATE " + action
			acts = acts && !described.Keyed(f.parentColumns)
		}
		if acts {
			return s.refuseReferred(ctx, table, f, policy, what)
		}
	}
	return nil
}

// refuseReferred is the stop at a foreign key.
func (s *Shipper) refuseReferred(ctx context.Context, table *Table, f *foreignKey, policy, why string) error {
	role, err := s.link.Query(ctx, "SELECT pg_catalog.quote_ident(current_user::pg_catalog.text)", 1)
	if err != nil {
		return err
	}
	does := "merging"
	if policy == existingTruncate {
		does = "emptying"
	}
	stop := s.newCopyStop(table, &session.Error{SQLState: "55000", Message: fmt.Sprintf(
		"%s the table on the node would reach rows of table %s there: foreign key %s (%s)", does, f.childName, identifier(f.name), why)})
	var ways []string
	if child := s.catalog.tables[f.child]; child != nil && f.child != f.parent && s.catalog.ranks[f.child] > s.catalog.ranks[f.parent] {
		ways = append(ways, fmt.Sprintf("Copy that table once more, too: SELECT courier.alter_subscription_resynchronize_table(%s, %s, '%s')",
			literal(s.name), literal(typedName(child)), policy))
	}
	if policy == existingTruncate {
		ways = append(ways, fmt.Sprintf("Merge the table instead: SELECT courier.alter_subscription_resynchronize_table(%s, %s, 'merge')",
			literal(s.name), literal(typedName(table))))
	}
	ways = append(ways, fmt.Sprintf("Let foreign keys not act on what arrives: GRANT SET ON PARAMETER session_replication_role TO %s on node %s (before PostgreSQL 15 that takes a superuser)",
		role[0][0], s.sub.Node), "Drop the foreign key there")
	stop.Advice = strings.Join(ways, "; or: ") + "."
	return stop
}

// typedName is a table's name as somebody would type it as a regclass.
func typedName(table *Table) string {
	if plainName.MatchString(table.Schema) && plainName.MatchString(table.Name) {
		return table.Schema + "." + table.Name
	}
	return qualified(table)
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// copyWithParent says that a table whose row lacks the one that it refers to can be
// copied once more with that one's, if that is being copied; "" if it is not.
func (s *Shipper) copyWithParent(table string) string {
	for i := range s.catalog.foreign {
		f := &s.catalog.foreign[i]
		child := s.catalog.tables[f.child]
		if child == nil || child.Schema+"."+child.Name != table || s.copying.pending[f.child] ||
			!s.copying.pending[f.parent] && !s.catalog.partial[f.parent] {
			continue
		}
		parent := s.catalog.tables[f.parent]
		return fmt.Sprintf("Table %s.%s, which it refers to, is being copied: copy this one once more, too: SELECT courier.alter_subscription_resynchronize_table(%s, %s, 'merge'). Or: ",
			parent.Schema, parent.Name, literal(s.name), literal(typedName(child)))
	}
	return ""
}

// references are the foreign keys by which rows of tables that are copied later
// refer to a table.
func (s *Shipper) references(oid uint32, above map[uint32]bool) []copydata.Reference {
	var list []copydata.Reference
	for i := range s.catalog.foreign {
		f := &s.catalog.foreign[i]
		if f.parent != oid || above[f.child] || !s.copiedLater(f) || s.onExisting(f.child) == existingError {
			continue
		}
		below := map[uint32]bool{f.child: true}
		for each := range above {
			below[each] = true
		}
		list = append(list, copydata.Reference{Table: f.from(), Columns: quoteAll(f.childColumns), Referenced: quoteAll(f.parentColumns),
			References: s.references(f.child, below)})
	}
	return list
}

// from is the referring table as a statement names it.
func (f *foreignKey) from() string {
	if f.childOnly {
		return "ONLY " + f.childName
	}
	return f.childName
}

func quoteAll(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = identifier(name)
	}
	return quoted
}
