package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/test/e2e/schemagen"
)

// schemaWorker runs schemas one after the other, in sessions that it keeps.
type schemaWorker struct {
	clusters *schemaClusters
	admin    *pgx.Conn // of the source
	sessions [schemagen.Sessions]*pgx.Conn
	codes    map[string]int // how often statements ended with which SQLSTATE
	err      error          // why there are no sessions
}

func (w *schemaWorker) open(ctx context.Context) {
	w.admin, w.err = w.clusters.source.Open(ctx, appDatabase)
	for i := range w.sessions {
		if w.err == nil {
			w.sessions[i], w.err = w.clusters.source.Open(ctx, appDatabase)
		}
	}
}

func (w *schemaWorker) close() {
	for _, conn := range append(w.sessions[:], w.admin) {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}
}

// schemaPatience bounds everything that is done with one schema.
const schemaPatience = 2 * time.Minute

// run makes a schema, runs steps, ships and compares. An error is a failure of the
// test; statements of the stream may fail, but only as they would anyhow.
func (w *schemaWorker) run(ctx context.Context, s *schemagen.Schema, steps []schemagen.Step) error {
	if w.err != nil {
		return w.err
	}
	ctx, cancel := context.WithTimeout(ctx, schemaPatience)
	defer cancel()
	target, err := w.target(ctx, s)
	if err != nil {
		return err
	}
	defer target.Close(context.Background())
	if err := w.clean(ctx, s, target); err != nil {
		return err
	}
	err = w.play(ctx, s, steps, target)
	if err == nil {
		err = w.clean(ctx, s, target)
	}
	return err
}

// target connects as whoever owns the schema there.
func (w *schemaWorker) target(ctx context.Context, s *schemagen.Schema) (*pgx.Conn, error) {
	if !s.Plain {
		return w.clusters.target.Open(ctx, appDatabase)
	}
	return pgx.Connect(ctx, w.clusters.target.DSNAs(plainDatabase, pgtest.PasswordRole, pgtest.Password))
}

// clean drops what the schema has left.
func (w *schemaWorker) clean(ctx context.Context, s *schemagen.Schema, target *pgx.Conn) error {
	for _, conn := range w.sessions {
		if err := schemaExec(ctx, conn, "ROLLBACK; SET search_path = public; RESET ALL; SET lock_timeout = '20ms'"); err != nil {
			return err
		}
	}
	rows, err := w.admin.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE $1", fmt.Sprintf("p%d\\_%%", s.Seed))
	if err != nil {
		return err
	}
	prepared, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var drop []string
	for _, gid := range prepared {
		drop = append(drop, "ROLLBACK PREPARED '"+gid+"'")
	}
	drop = append(drop, fmt.Sprintf("SELECT courier.drop_subscription(subscription_name) FROM courier.subscription WHERE subscription_name = 'sub_%d'", s.Seed))
	for _, namespace := range s.Namespaces() {
		drop = append(drop, "DROP SCHEMA IF EXISTS "+namespace+" CASCADE")
	}
	for _, set := range s.Sets {
		drop = append(drop, "SELECT courier.drop_replication_set(set_name) FROM courier.replication_set WHERE set_name = '"+set+"'")
	}
	for _, sql := range drop {
		if err := schemaExec(ctx, w.admin, sql); err != nil {
			return err
		}
		if strings.HasPrefix(sql, "DROP SCHEMA") {
			if err := schemaExec(ctx, target, sql); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *schemaWorker) play(ctx context.Context, s *schemagen.Schema, steps []schemagen.Step, target *pgx.Conn) error {
	for conn, ddl := range map[*pgx.Conn][]string{w.admin: s.Here, target: s.There} {
		for _, sql := range ddl {
			if err := schemaExec(ctx, conn, sql); err != nil {
				return err
			}
		}
	}
	if s.CopyData {
		for _, step := range s.First {
			step.Session = 0
			if err := w.step(ctx, s, step); err != nil {
				return err
			}
		}
	}
	for _, sql := range s.Publish {
		if err := schemaExec(ctx, w.admin, sql); err != nil {
			return err
		}
	}
	node := map[bool]string{false: targetNode, true: plainNode}[s.Plain]
	_, err := w.admin.Exec(ctx, "SELECT courier.create_subscription($1, $2, $3::text[], copy_data => $4, options => $5)",
		fmt.Sprintf("sub_%d", s.Seed), node, s.Sets, s.CopyData, s.Options)
	if err != nil {
		return fmt.Errorf("create the subscription: %w", err)
	}
	for _, step := range steps {
		if err := w.step(ctx, s, step); err != nil {
			return err
		}
	}
	for _, conn := range w.sessions {
		if err := schemaExec(ctx, conn, "ROLLBACK"); err != nil {
			return err
		}
	}
	if err := w.ship(ctx, s); err != nil {
		return err
	}
	return w.compare(ctx, s, target)
}

func (w *schemaWorker) ship(ctx context.Context, s *schemagen.Schema) error {
	return schemaExec(ctx, w.admin, fmt.Sprintf("SELECT courier.ship('sub_%d')", s.Seed))
}

// shipBetween ships while transactions are open. The first copy reads the tables,
// and one that has truncated a table may have it until the end of the stream.
func (w *schemaWorker) shipBetween(ctx context.Context, s *schemagen.Schema) error {
	if err := schemaExec(ctx, w.admin, "SET lock_timeout = '1s'"); err != nil {
		return err
	}
	err := w.ship(ctx, s)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "55P03" && s.CopyData {
		err = nil
	}
	if reset := schemaExec(ctx, w.admin, "RESET lock_timeout"); reset != nil {
		return reset
	}
	return err
}

// step runs one; its statement may fail for what it is, not for pg_courier.
func (w *schemaWorker) step(ctx context.Context, s *schemagen.Schema, step schemagen.Step) error {
	if step.SQL == "" {
		return w.shipBetween(ctx, s)
	}
	conn := w.sessions[step.Session]
	guard := func(sql string) error {
		if !step.Guarded || conn.PgConn().TxStatus() == 'I' {
			return nil
		}
		return schemaExec(ctx, conn, sql)
	}
	if err := guard("SAVEPOINT guard"); err != nil && conn.PgConn().TxStatus() != 'E' {
		return err
	}
	if step.Patient {
		if err := schemaExec(ctx, conn, "SET lock_timeout = '20s'"); err != nil && conn.PgConn().TxStatus() != 'E' {
			return err
		}
	}
	var err error
	if step.Copy != "" {
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(step.Copy), step.SQL)
	} else {
		err = schemaExec(ctx, conn, step.SQL)
	}
	if err == nil {
		err = guard("RELEASE guard")
	} else if conn.PgConn().TxStatus() == 'E' {
		if err := guard("ROLLBACK TO guard"); err != nil && !step.Guarded {
			return err
		}
	}
	if step.Patient {
		if err := schemaExec(ctx, conn, "SET lock_timeout = '20ms'"); err != nil && conn.PgConn().TxStatus() != 'E' {
			return err
		}
	}
	var refused *pgconn.PgError
	switch {
	case err == nil:
		w.codes["00000"]++
		return nil
	case !errors.As(err, &refused):
		return fmt.Errorf("%s: %w", step.SQL, err)
	}
	w.codes[refused.Code]++
	if slices.Contains([]string{"22", "23", "40"}, refused.Code[:2]) || slices.Contains(streamCodes, refused.Code) {
		return nil
	}
	if refused.Code == "42883" && ownStatement(refused) {
		return nil // its search_path has no operators of an extension's type
	}
	if s.DDL && slices.Contains([]string{"42", "0A", "2B"}, refused.Code[:2]) {
		return nil // what earlier DDL should have made is not there
	}
	return fmt.Errorf("%s: %w", shortenLiterals(step.SQL), err)
}

// ownStatement reports whether the statement itself is at fault, or one in the block
// that it is, and nothing that it has fired.
func ownStatement(refused *pgconn.PgError) bool {
	return refused.Where == "" && refused.Position > 0 ||
		strings.HasPrefix(refused.Where, "PL/pgSQL function inline_code_block") && strings.Count(refused.Where, "\n") == 0
}

// streamCodes are errors of a stream beside those of data, constraints and
// serialization.
var streamCodes = []string{
	"25P02",          // the transaction has failed before
	"3B001",          // so its savepoint is not there
	"55P03",          // another session has the lock
	"21000",          // two rows of one statement conflict
	"27000",          // a row was changed by what the statement has fired
	"42704",          // the transaction could not be prepared
	"24000",          // no row for WHERE CURRENT OF
	"55006",          // TRUNCATE or DDL of a table whose deferred triggers are still to fire
	"54000",          // a wide value is too much for a new index
	"25P01", "25001", // after steps were left out: no transaction; one that has begun
}

// schemaExec runs statements, and names them in an error.
func schemaExec(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w\ndetail: %s\nhint: %s\nwhere: %s\nin: %s", err, refused.Detail, refused.Hint, refused.Where, shortenLiterals(sql))
	}
	return err
}

// compare takes what the sets say: of each table the columns and rows that any of
// them sends.
func (w *schemaWorker) compare(ctx context.Context, s *schemagen.Schema, target *pgx.Conn) error {
	rows, err := w.admin.Query(ctx, `
		SELECT format('%I.%I', n.nspname, c.relname) AS name,
			string_agg('(' || coalesce(t.row_filter, 'true') || ')', ' OR ') AS filter,
			(SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
			 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
				AND (bool_or(t.columns IS NULL) OR a.attname = ANY (string_to_array(string_agg(array_to_string(t.columns, E'\x01'), E'\x01'), E'\x01')))) AS columns,
			(SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '') AS generated,
			CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END AS only
		FROM courier.replication_set_table t JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE t.set_name = ANY ($1) GROUP BY n.nspname, c.relname, c.oid, c.relkind ORDER BY 1`, s.Sets)
	if err != nil {
		return err
	}
	type published struct {
		Name, Filter string
		Columns      []string
		Generated    []string
		Only         string
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByName[published])
	if err != nil {
		return fmt.Errorf("read the sets: %w", err)
	}
	var problems []string
	if s.DDL {
		const made = "SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), '') FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = $1::regnamespace"
		var here, there string
		if err := w.admin.QueryRow(ctx, made, s.Namespaces()[0]).Scan(&here); err != nil {
			return err
		}
		if err := target.QueryRow(ctx, made, s.Namespaces()[0]).Scan(&there); err != nil {
			return err
		}
		if here != there {
			problems = append(problems, fmt.Sprintf("tables of the source: %s; of the target: %s", here, there))
		}
	}
	for _, table := range tables {
		var there []string
		var kind string
		err := target.QueryRow(ctx, `SELECT coalesce(array_agg(a.attname::text), '{}'), coalesce(min(c.relkind), '-')::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE c.oid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`, table.Name).Scan(&there, &kind)
		if err != nil {
			return fmt.Errorf("read the columns of %s: %w", table.Name, err)
		}
		var terms []string
		for _, column := range table.Columns {
			if slices.Contains(there, column) {
				terms = append(terms, "t."+pgx.Identifier{column}.Sanitize()+"::text")
			} else if !slices.Contains(table.Generated, column) {
				problems = append(problems, fmt.Sprintf("table %s has no column %s on the target", table.Name, column))
			}
		}
		row := "ROW(" + strings.Join(terms, ", ") + ")::text"
		onlyThere := map[bool]string{true: "", false: "ONLY "}[kind == "p"]
		a, err := readContents(ctx, w.admin, fmt.Sprintf("(SELECT * FROM %s%s WHERE %s)", table.Only, table.Name, table.Filter), row)
		if err != nil {
			return err
		}
		b, err := readContents(ctx, target, onlyThere+table.Name, row)
		if err != nil {
			return err
		}
		if a == b {
			continue
		}
		here := fmt.Sprintf("(SELECT * FROM %s%s WHERE %s)", table.Only, table.Name, table.Filter)
		difference, err := schemaDifference(ctx, w.admin, here, target, onlyThere+table.Name, row)
		if err != nil {
			return err
		}
		problems = append(problems, fmt.Sprintf("table %s differs: %d rows on the source, %d on the target; %s\n%s", table.Name, a.rows, b.rows, row, difference))
	}
	if problems != nil {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}

// schemaDifference lists rows that only one side has.
func schemaDifference(ctx context.Context, source *pgx.Conn, here string, target *pgx.Conn, there, row string) (string, error) {
	texts := func(conn *pgx.Conn, from string) ([]string, error) {
		rows, err := conn.Query(ctx, fmt.Sprintf("SELECT %s FROM %s t", row, from))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	a, err := texts(source, here)
	if err != nil {
		return "", err
	}
	b, err := texts(target, there)
	if err != nil {
		return "", err
	}
	return surplusRows(a, b), nil
}

// surplusRows shows some rows that one list has more often than the other.
func surplusRows(source, target []string) string {
	surplus := make(map[string]int64)
	for _, text := range source {
		surplus[text]++
	}
	for _, text := range target {
		surplus[text]--
	}
	return surplusLines(surplus)
}
