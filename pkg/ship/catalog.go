package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/wire"
)

// catalog knows the tables of a subscription on both sides.
type catalog struct {
	session session.Session

	sets    []string          // of the subscription
	tables  map[uint32]*Table // by OID; what the subscription takes
	pending map[uint32]bool   // to be copied; their changes are in the copy
	partial map[uint32]bool   // being copied; their changes are applied by key
	kept    map[uint32]bool   // pending, to be merged; their changes go on being applied
	foreign []foreignKey      // of the node, if they act
	ranks   map[uint32]int    // foreign keys: parents below children
	// Some table refers to itself or, by way of others, to one that refers to it.
	circular bool
	shapes   map[uint32]*change.Relation
	// Sessions that write to a table at the same time for the first time may
	// store its shape under several ids; to a batch it must be one.
	relations map[string]*change.Relation
	remote    map[tableName]*render.Table
	targets   map[*change.Relation]*render.Target

	remoteTypes map[remoteColumn]*typeFacts
}

type tableName struct{ schema, name string }

type remoteColumn struct {
	table  tableName
	column string
}

func newCatalog(s session.Session) *catalog {
	return &catalog{session: s, shapes: make(map[uint32]*change.Relation), relations: make(map[string]*change.Relation)}
}

// lookup is a catalog for the length of one operation. It implements
// wire.Shapes and render.Targets, whose methods have no context.
type lookup struct {
	*catalog
	ctx context.Context
}

// load takes over a subscription's tables and reads what the target has.
func (c *catalog) load(ctx context.Context, sub *Subscription, link *dblink.Link) error {
	c.sets = sub.Sets
	c.tables = make(map[uint32]*Table, len(sub.Tables))
	for i := range sub.Tables {
		c.tables[sub.Tables[i].OID] = &sub.Tables[i]
	}
	if err := c.loadRanks(ctx); err != nil {
		return err
	}
	return c.loadRemote(ctx, sub, link)
}

// loadRanks orders the tables so that the parents of foreign keys come first.
// Tables of a cycle keep some order, always the same; the row-by-row path serves them.
func (c *catalog) loadRanks(ctx context.Context) error {
	rows, err := c.session.Query(ctx, `SELECT conrelid, confrelid FROM pg_catalog.pg_constraint
		WHERE contype = 'f' AND conparentid = 0 ORDER BY 1, 2`)
	if err != nil {
		return fmt.Errorf("read the foreign keys: %w", err)
	}
	parents := make(map[uint32][]uint32)
	circular := false
	for _, row := range rows {
		child, err1 := strconv.ParseUint(string(row[0]), 10, 32)
		parent, err2 := strconv.ParseUint(string(row[1]), 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read the foreign keys: %w", err)
		}
		if child != parent {
			parents[uint32(child)] = append(parents[uint32(child)], uint32(parent))
		} else if c.tables[uint32(child)] != nil {
			circular = true
		}
	}
	c.ranks = make(map[uint32]int)
	visiting := make(map[uint32]bool)
	var rank func(oid uint32) int
	rank = func(oid uint32) int {
		if r, ok := c.ranks[oid]; ok {
			return r
		}
		if visiting[oid] {
			circular = true
			return 0
		}
		visiting[oid] = true
		r := 0
		for _, parent := range parents[oid] {
			r = max(r, rank(parent)+1)
		}
		visiting[oid] = false
		c.ranks[oid] = r
		return r
	}
	for _, oid := range slices.Sorted(maps.Keys(c.tables)) {
		rank(oid)
	}
	c.circular = circular
	return nil
}

func (c *catalog) rank(relation *change.Relation) int { return c.ranks[relation.OID] }

// equality is an expression for the operator of a type's default equality, null if
// that is in pg_catalog.
func equality(typeOID string) string {
	return `(SELECT pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, o.oprname)
	 FROM pg_catalog.pg_opclass oc
	 JOIN pg_catalog.pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree'
	 JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
	      AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
	 JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr
	 JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace AND opn.nspname <> 'pg_catalog'
	 WHERE oc.opcdefault AND oc.opcintype = ` + typeOID + ` LIMIT 1)`
}

// remoteColumns describes the target's columns as render wants them. A type
// whose default equality is not in pg_catalog has its operator named, and a
// column of a domain its collation if that is not the domain's. It takes the
// expressions of that operator and of a type's facts, and the list of wanted tables.
const remoteColumns = `SELECT n.nspname, c.relname, a.attname, pg_catalog.format_type(a.atttypid, -1),
	t.typarray <> 0 AND t.typdelim = ',' AND t.typcategory NOT IN ('A', 'C') AND t.typtype <> 'c',
	a.attgenerated <> '', a.attidentity,
	%s,
	(SELECT pg_catalog.format('%%I.%%I', con.nspname, co.collname)
	 FROM pg_catalog.pg_collation co
	 JOIN pg_catalog.pg_namespace con ON con.oid = co.collnamespace
	 WHERE co.oid = a.attcollation AND a.attcollation <> t.typcollation AND t.typtype = 'd'),
	c.relkind = 'r', pg_catalog.row_security_active(c.oid), c.relkind = 'v',
	CASE WHEN c.relkind <> 'v' THEN NULL
	     WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgtype & 64 <> 0)
	     THEN 'it is a view with INSTEAD OF triggers on the target, which do not fire where session_replication_role is replica'
	     WHEN pg_catalog.pg_relation_is_updatable(c.oid, false) & 28 <> 28
	     THEN 'it is a view on the target that cannot be updated' END,
	%s
FROM (VALUES %s) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema::pg_catalog.name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name::pg_catalog.name
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'f', 'v')
  AND n.nspname::pg_catalog.text = wanted.schema AND c.relname::pg_catalog.text = wanted.name
ORDER BY 1, 2, a.attnum`

func (c *catalog) loadRemote(ctx context.Context, sub *Subscription, link *dblink.Link) error {
	c.remote = make(map[tableName]*render.Table)
	c.remoteTypes = make(map[remoteColumn]*typeFacts)
	c.targets = make(map[*change.Relation]*render.Target)
	var names []tableName
	for _, t := range c.tables {
		names = append(names, tableName{t.Schema, t.Name})
	}
	// changes queued before a rename bear the old name
	for _, relation := range c.shapes {
		names = append(names, tableName{relation.Schema, relation.Name})
	}
	if len(names) == 0 {
		return nil
	}
	return c.loadRemoteTables(ctx, link, names)
}

// hasDropped reports whether a table of the subscription is no more.
func (c *catalog) hasDropped() bool {
	for _, table := range c.tables {
		if table.Dropped {
			return true
		}
	}
	return false
}

// forgetRemote makes the target's tables be looked at again: a command may have
// changed any of them.
func (c *catalog) forgetRemote() {
	clear(c.remote)
	clear(c.targets)
	clear(c.remoteTypes)
}

func (c *catalog) loadRemoteTables(ctx context.Context, link *dblink.Link, names []tableName) error {
	// a list of values: as many conditions would be too deep a tree
	var list strings.Builder
	listed := make(map[tableName]bool, len(names))
	for _, name := range names {
		if listed[name] {
			continue
		}
		listed[name] = true
		if list.Len() > 0 {
			list.WriteString(", ")
		}
		list.WriteString("(" + literal(name.schema) + ", " + literal(name.name) + ")")
		c.remote[name] = nil
	}
	rows, err := link.Query(ctx, fmt.Sprintf(remoteColumns, equality("t.oid"), typeFactsOf("t.oid"), list.String()), 14)
	if err != nil {
		return fmt.Errorf("look at the target's tables: %w", err)
	}
	for _, row := range rows {
		name := tableName{string(row[0]), string(row[1])}
		table := c.remote[name]
		if table == nil {
			table = &render.Table{Schema: name.schema, Name: name.name, Only: string(row[9]) == "t",
				RowSecurity: string(row[10]) == "t", View: string(row[11]) == "t", Unfit: string(row[12])}
			c.remote[name] = table
		}
		column := render.Column{Name: string(row[2]), Type: string(row[3]),
			Direct: string(row[4]) == "t", Generated: string(row[5]) == "t", Equal: string(row[7]), Collation: string(row[8])}
		if len(row[6]) == 1 {
			column.Identity = row[6][0]
		}
		table.Columns = append(table.Columns, column)
		c.remoteTypes[remoteColumn{name, column.Name}] = parseFacts(row[13])
	}
	return nil
}

// Shape implements wire.Shapes.
func (c lookup) Shape(id uint32) (*change.Relation, error) {
	if relation, ok := c.shapes[id]; ok {
		return relation, nil
	}
	rows, err := c.session.Query(c.ctx, `SELECT relation, definition FROM courier.shape
		WHERE id = $1::pg_catalog.int8 LIMIT 1`, strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return nil, fmt.Errorf("read shape %d: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("read shape %d: %w", id, &session.Error{SQLState: "XX001",
			Message: "a queued change names a shape that courier.shape does not have"})
	}
	content := string(rows[0][0]) + " " + string(rows[0][1])
	if relation, ok := c.relations[content]; ok {
		c.shapes[id] = relation
		return relation, nil
	}
	relation, err := wire.ParseRelation(rows[0][1])
	if err != nil {
		return nil, fmt.Errorf("read shape %d: %w", id, err)
	}
	oid, err := strconv.ParseUint(string(rows[0][0]), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read shape %d: %w", id, err)
	}
	relation.Shape, relation.OID = id, uint32(oid)
	c.shapes[id], c.relations[content] = relation, relation
	return relation, nil
}

// wants reports whether a change of a table, made by a transaction, is shipped.
func (c *catalog) wants(relation *change.Relation, op change.Op, xid uint64) bool {
	return c.concerned(relation, op, xid) && (!c.pending[relation.OID] || c.kept[relation.OID])
}

// waits reports whether it is not only because the table's copy brings it.
func (c *catalog) waits(relation *change.Relation, op change.Op, xid uint64) bool {
	return c.concerned(relation, op, xid) && c.pending[relation.OID] && !c.kept[relation.OID]
}

func (c *catalog) concerned(relation *change.Relation, op change.Op, xid uint64) bool {
	table := c.tables[relation.OID]
	return table != nil && table.Filter.Allows(op) && !table.Added.Visible(xid)
}

// unknown lists those relations whose target has not been looked at.
func (c *catalog) unknown(relations map[*change.Relation]bool) []tableName {
	var names []tableName
	for relation := range relations {
		name := tableName{relation.Schema, relation.Name}
		if _, ok := c.remote[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// Target implements render.Targets.
func (c lookup) Target(relation *change.Relation) (*render.Target, error) {
	if target, ok := c.targets[relation]; ok {
		return target, nil
	}
	table := c.tables[relation.OID]
	if table == nil {
		return nil, nil
	}
	remote := c.remote[tableName{relation.Schema, relation.Name}]
	target, err := render.Compile(relation, remote, &table.Filter)
	if err != nil {
		return nil, c.withType(relation, err)
	}
	if err = c.checkTypes(relation, remote, target); err != nil {
		return nil, err
	}
	c.targets[relation] = target
	return target, nil
}

// withType adds to a drift error what its hint can say with the source's catalog:
// the type of the column, or the definition of the table.
func (c lookup) withType(relation *change.Relation, err error) error {
	var drift *render.DriftError
	if !errors.As(err, &drift) {
		return err
	}
	if drift.Column == "" && c.remote[tableName{relation.Schema, relation.Name}] == nil {
		// One that was dropped or renamed since has none, nor does a table of
		// another name.
		drift.Fix, _, _ = session.Value(c.ctx, c.session, `SELECT courier.table_definition(c.oid) FROM pg_catalog.pg_class AS c
			JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.oid = $1::pg_catalog.oid AND n.nspname = $2 AND c.relname = $3`,
			strconv.FormatUint(uint64(relation.OID), 10), relation.Schema, relation.Name)
	}
	for i := range relation.Columns {
		column := &relation.Columns[i]
		if column.Name != drift.Column {
			continue
		}
		// Without the type the hint is only less helpful.
		drift.Type, _, _ = session.Value(c.ctx, c.session,
			"SELECT pg_catalog.format_type($1::pg_catalog.oid, $2::pg_catalog.int4)",
			strconv.FormatUint(uint64(column.TypeOID), 10), strconv.Itoa(int(column.TypeMod)))
	}
	return err
}

// literal quotes a text for SQL.
func literal(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}
