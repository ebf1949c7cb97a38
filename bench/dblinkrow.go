package main

import (
	"context"
	"fmt"
	"strings"
)

// rowByRow is what articles show: a trigger that sends each row over dblink, as
// the source's transaction goes. The target's rows are committed one by one, also
// those of a transaction that is rolled back later.
type rowByRow struct{ resident }

const rowByRowTrigger = `
CREATE EXTENSION dblink;
CREATE FUNCTION send_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	changes text;
BEGIN
	IF NOT 'target' = ANY (coalesce(dblink_get_connections(), '{}')) THEN
		PERFORM dblink_connect('target', '%s');
	END IF;
	IF TG_OP = 'DELETE' THEN
		PERFORM dblink_exec('target', format('DELETE FROM %%I WHERE %%I = %%L', TG_TABLE_NAME, TG_ARGV[0], to_jsonb(OLD) ->> TG_ARGV[0]));
	ELSE
		SELECT string_agg(format('%%1$I = EXCLUDED.%%1$I', attname), ', ') INTO changes
		FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped;
		PERFORM dblink_exec('target', format('INSERT INTO %%1$I SELECT (%%2$L::%%1$I).* ON CONFLICT (%%3$I) DO UPDATE SET %%4$s',
			TG_TABLE_NAME, NEW, TG_ARGV[0], changes));
	END IF;
	RETURN NULL;
END $$`

func newRowByRow(ctx context.Context, p *pair, _ *config) (shipper, error) {
	return rowByRow{}, captureRowByRow(ctx, p.source, p.tables, p.targetFromSource())
}

func captureRowByRow(ctx context.Context, s *server, tables []*table, target address) error {
	statements := []string{fmt.Sprintf(rowByRowTrigger, target.conninfo())}
	for _, t := range tables {
		statements = append(statements, fmt.Sprintf(
			"CREATE TRIGGER send_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION send_row('%s')", t.name, t.key))
	}
	return s.exec(ctx, strings.Join(statements, ";\n"))
}

func (rowByRow) start(context.Context) error { return nil }
func (rowByRow) stop(context.Context) error  { return nil }
