package ship

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/copydata"
	"github.com/pg-courier/pg_courier/pkg/render"
)

// describe says how a table is copied as it is now, and whether by key.
func (s *Shipper) describe(ctx context.Context, table *Table) (described *copydata.Table, byKey bool, err error) {
	if described, err = s.define(ctx, table); err != nil {
		return nil, false, err
	}
	circular := s.catalog.circular && !s.link.Replica
	if !described.Relation.HasKey() || !table.sendsAll() || circular || described.Target.RowSecurity() ||
		s.catalog.remote[tableName{table.Schema, table.Name}].View {
		return described, false, nil
	}
	if byKey, err = s.hasKey(ctx, described); byKey {
		described.References = s.references(table.OID, map[uint32]bool{table.OID: true})
		described.Held = s.heldBy(table.OID) != nil
	}
	return described, byKey, err
}

// define says what a table is on both sides now.
func (s *Shipper) define(ctx context.Context, table *Table) (*copydata.Table, error) {
	defined := &copydata.Table{OID: table.OID, Schema: table.Schema, Name: table.Name}
	if err := s.sourceRelation(ctx, table, defined); err != nil {
		return nil, err
	}
	targets := lookup{s.catalog, ctx}
	remote := s.catalog.remote[tableName{table.Schema, table.Name}]
	var err error
	if defined.Target, err = render.Compile(defined.Relation, remote, &table.Filter); err != nil {
		return nil, targets.withType(defined.Relation, err)
	}
	if err = targets.checkTypes(defined.Relation, remote, defined.Target); err != nil {
		return nil, err
	}
	defined.Condition, err = s.copyCondition(ctx, table)
	return defined, err
}

// sendsAll says that every change of the table is sent.
func (t *Table) sendsAll() bool {
	all := func(f *render.Filter) bool { return f.Insert && f.Update && f.Delete }
	for i := range t.members {
		if !all(&t.members[i].allows) {
			return false
		}
	}
	return all(&t.Filter) && t.Filter.Truncate
}

// hasKey asks whether the table on the node is kept by the key of the source's.
func (s *Shipper) hasKey(ctx context.Context, table *copydata.Table) (bool, error) {
	var columns []string
	for _, i := range table.Relation.Keys() {
		if table.Relation.Columns[i].Generated {
			return false, nil
		}
		columns = append(columns, literal(table.Relation.Columns[i].Name))
	}
	rows, err := s.link.Query(ctx, fmt.Sprintf(`SELECT EXISTS (
		SELECT FROM pg_catalog.pg_index AS i
		JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
		  AND i.indpred IS NULL AND i.indexprs IS NULL
		  AND ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
		            WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
		            ORDER BY 1)
		    = ARRAY(SELECT c FROM pg_catalog.unnest(ARRAY[%s]::pg_catalog.text[]) AS c ORDER BY 1))`,
		literal(table.Schema), literal(table.Name), strings.Join(columns, ", ")), 1)
	if err != nil {
		return false, err
	}
	return string(rows[0][0]) == "t", nil
}

// sourceRelation describes a table as it is now, and says how its columns are
// selected.
func (s *Shipper) sourceRelation(ctx context.Context, table *Table, described *copydata.Table) error {
	oid := strconv.FormatUint(uint64(table.OID), 10)
	rows, err := s.session.Query(ctx, `SELECT a.attname, a.atttypid, a.atttypmod, pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, -1), a.attlen = -1,
		(WITH RECURSIVE b AS (
		    SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
		    UNION ALL
		    SELECT t.oid, t.typbasetype FROM b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype)
		 SELECT pg_catalog.bool_or(b.oid = 'pg_catalog.bytea'::pg_catalog.regtype) FROM b),
		coalesce(a.attname = ANY (k.names), false), a.attgenerated <> '',
		c.relreplident = 'f' AND pg_catalog.cardinality(k.names) = (
		    SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS o
		    WHERE o.attrelid = c.oid AND o.attnum > 0 AND NOT o.attisdropped AND o.attgenerated = ''),
		coalesce(`+equality("a.atttypid")+`, '=')
		FROM pg_catalog.pg_class AS c
		CROSS JOIN courier.key_columns(c.oid::pg_catalog.regclass) AS k (names)
		JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
		WHERE c.oid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
		  AND (a.attgenerated = '' OR a.attname = ANY (k.names))
		ORDER BY a.attnum`, oid)
	if err != nil {
		return fmt.Errorf("look at table %s.%s: %w", table.Schema, table.Name, err)
	}
	relation := &change.Relation{OID: table.OID, Schema: table.Schema, Name: table.Name, Identity: 'd'}
	for _, row := range rows {
		name, key := string(row[0]), string(row[7]) == "t"
		if table.Filter.Columns != nil && !table.Filter.Columns[name] && !key {
			continue
		}
		typeOID, err1 := strconv.ParseUint(string(row[1]), 10, 32)
		typmod, err2 := strconv.ParseInt(string(row[2]), 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("look at table %s: %w", relation, err)
		}
		if string(row[9]) == "t" { // rows are known by all their columns
			key, relation.Identity = false, 'n'
		}
		relation.Columns = append(relation.Columns, change.Column{Name: name, TypeOID: uint32(typeOID), TypeMod: int32(typmod),
			Key: key, Generated: string(row[8]) == "t"})
		described.Selected = append(described.Selected, string(row[3]))
		described.Types = append(described.Types, string(row[4]))
		described.Equal = append(described.Equal, string(row[10]))
		described.Varying = append(described.Varying, string(row[5]) == "t")
		described.Binary = append(described.Binary, string(row[6]) == "t")
	}
	described.Relation = relation
	return nil
}
