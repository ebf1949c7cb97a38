package ship

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Option synchronize_structure creates what a node lacks of the tables of a
// subscription, before they are copied: in one transaction, in the words of
// pg_dump. Triggers are not among it, so neither are those of capture; nor are
// functions, which a node has to have if a default or a constraint calls them.
//
// It is the structure as of a pinned snapshot, behind the changes that are queued up
// to it: a queued command would fail on a node that has what it makes, and those
// behind the snapshot find what they were run upon. No table is locked meanwhile,
// since pg_dump would wait behind a command that waits for us.

// structureLimit is how long pg_dump or pg_restore may take.
const structureLimit = time.Hour

// object is what courier.subscription_structure() lists.
type object struct{ catalog, oid, kind, schema, name, table string }

// structureDue says that tables are to be copied that may not be there.
func (s *Shipper) structureDue() bool {
	return s.sub.Options.SynchronizeStructure == "true" && len(s.copying.pending) > 0 && !s.copying.structured
}

// synchronizeStructure ships what the pinned snapshot sees, and creates what is
// missing on the node then.
func (s *Shipper) synchronizeStructure(ctx context.Context) error {
	if !s.structureDue() { // the configuration has changed
		return nil
	}
	end, err := s.copyPosition(ctx)
	if err != nil {
		return err
	}
	if err = s.shipUpTo(ctx); err != nil {
		return err
	}
	if err = s.moveTo(ctx, end); err != nil {
		return err
	}
	missing, err := s.missingStructure(ctx)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err = s.createStructure(ctx, missing); err != nil {
			return s.stopStructure(err)
		}
		if err = s.catalog.loadRemote(ctx, s.sub, s.link); err != nil {
			return err
		}
	}
	s.copying.structured = true
	return nil
}

// stopStructure explains a structure that can't be made.
func (s *Shipper) stopStructure(err error) error {
	if dblink.Classify(err) == dblink.Unknown && SQLState(err) == "" {
		return err
	}
	advice := Hint(err)
	switch state := SQLState(err); {
	case state == "42501":
		advice = fmt.Sprintf("Grant the role that pg_courier connects as on node %s CREATE on the database and on the schemas there, and the privileges on what the tables refer to; or make the tables there by hand.", s.sub.Node)
	case advice == "" || strings.HasPrefix(state, "42"): // the node's own hint is about the statement
		advice = "Make what is missing on the node by hand, as far as it is at fault: extensions and functions are not synchronized. Or leave the option synchronize_structure out."
	}
	return &StopError{Subscription: s.name, Node: s.sub.Node, Op: "create structure", Err: fmt.Errorf("synchronize the structure: %w", err), Advice: advice}
}

// missingStructure lists what the node does not have.
func (s *Shipper) missingStructure(ctx context.Context) ([]object, error) {
	rows, err := s.session.Query(ctx, `SELECT catalog, object, kind, schema_name, object_name, coalesce(table_name, '')
		FROM courier.subscription_structure($1::pg_catalog.int4)`, fmt.Sprint(s.sub.ID))
	if err != nil {
		return nil, fmt.Errorf("list the structure of subscription %s: %w", s.name, err)
	}
	all := make([]object, len(rows))
	var list []string
	for i, row := range rows {
		all[i] = object{string(row[0]), string(row[1]), string(row[2]), string(row[3]), string(row[4]), string(row[5])}
		list = append(list, fmt.Sprintf("(%d, %s, %s, %s, %s)", i, literal(all[i].kind), literal(all[i].schema),
			literal(all[i].name), literal(all[i].table)))
	}
	if len(all) == 0 {
		return nil, nil
	}
	found, err := s.link.Query(ctx, `SELECT w.n FROM (VALUES `+strings.Join(list, ", ")+`) AS w (n, kind, schema, name, owner)
		LEFT JOIN pg_catalog.pg_namespace AS s ON s.nspname = w.schema
		WHERE CASE w.kind
		    WHEN 'schema' THEN s.oid IS NULL
		    WHEN 'type' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_type AS t WHERE t.typnamespace = s.oid AND t.typname = w.name)
		    WHEN 'constraint' THEN NOT EXISTS (
		        SELECT FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
		        WHERE c.relnamespace = s.oid AND c.relname = w.owner AND k.conname = w.name)
		    WHEN 'default' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = s.oid AND c.relname = w.owner)
		    ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = s.oid AND c.relname = w.name) END
		ORDER BY w.n`, 1)
	if err != nil {
		return nil, err
	}
	var missing []object
	for _, row := range found {
		var n int
		if _, err = fmt.Sscan(string(row[0]), &n); err != nil {
			return nil, err
		}
		missing = append(missing, all[n])
	}
	return missing, nil
}

// createStructure creates objects on the node, over a connection of its own: what
// pg_dump writes sets a session up in its own way.
func (s *Shipper) createStructure(ctx context.Context, missing []object) error {
	snapshot, err := s.session.Share(ctx)
	if err != nil {
		return err
	}
	ctx = session.WithLimit(ctx, structureLimit)
	list, _, err := session.Value(ctx, s.session, "SELECT courier.dump_structure($1)", snapshot)
	if err != nil {
		return err
	}
	entries := chooseEntries(list, missing)
	sql, _, err := session.Value(ctx, s.session, "SELECT courier.restore_structure($1)", strings.Join(entries, "\n")+"\n")
	if err != nil {
		return err
	}
	link, err := dblink.Open(ctx, s.session, fmt.Sprintf("pg_courier_%d_structure", s.sub.ID), s.sub.Node, s.sub.Server)
	if err != nil {
		return s.explainConnect(err)
	}
	s.log.Info("creating what is missing on the node", "subscription", s.name, "node", s.sub.Node, "objects", len(entries))
	err = link.Exec(ctx, "SELECT pg_catalog.set_config('check_function_bodies', 'off', false);\n"+withoutPreamble(sql))
	if closeErr := link.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// chooseEntries picks the lines of a list of contents that create objects. A line
// is "number; catalog oid KIND schema name owner"; what has no OID of its own is
// known by its names.
func chooseEntries(list string, missing []object) []string {
	wanted := make(map[string]bool)
	for _, o := range missing {
		wanted[o.catalog+" "+o.oid] = true
		for _, kind := range attached[o.kind] {
			wanted["0 0 "+kind+" "+o.schema+" "+o.name] = true
		}
	}
	var entries []string
	for line := range strings.SplitSeq(list, "\n") {
		_, entry, ok := strings.Cut(line, "; ")
		if !ok || strings.HasPrefix(line, ";") {
			continue
		}
		fields := strings.SplitN(entry, " ", 3)
		if len(fields) < 3 || slices.ContainsFunc(left, func(kind string) bool { return strings.HasPrefix(fields[2], kind+" ") }) {
			continue
		}
		owner := strings.LastIndexByte(entry, ' ')
		if wanted[fields[0]+" "+fields[1]] && fields[1] != "0" || wanted[entry[:owner]] {
			entries = append(entries, line)
		}
	}
	return entries
}

// attached are the entries without an OID that belong to a kind of object.
var attached = map[string][]string{
	"table":    {"TABLE ATTACH"},
	"index":    {"INDEX ATTACH"},
	"sequence": {"SEQUENCE OWNED BY"},
	// of a partition's index that belongs to a constraint
	"constraint": {"INDEX ATTACH"},
}

// left are the entries that are not created though their object is.
var left = []string{"COMMENT", "ACL", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "PUBLICATION", "PUBLICATION TABLE", "STATISTICS", "SECURITY LABEL"}

// withoutPreamble leaves out what pg_restore writes for psql and for its own
// session: all before the first entry, and commands of psql.
func withoutPreamble(sql string) string {
	if i := strings.Index(sql, "\n--\n-- Name: "); i >= 0 {
		sql = sql[i:]
	}
	var lines []string
	for line := range strings.SplitSeq(sql, "\n") {
		if !strings.HasPrefix(line, `\unrestrict `) && !strings.HasPrefix(line, `\restrict `) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
