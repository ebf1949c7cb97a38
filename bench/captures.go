package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// capture is a way to capture changes of tables in one database, which nobody
// ships.
type capture struct {
	name  string
	title string
	needs requirement
	// share is the part of the rows that it captures; a slow way would take hours
	// for all.
	share   float64
	install func(ctx context.Context, s *server, tables []*table) error
	// empty removes what has been captured.
	empty string
}

const (
	uncaptured = "no capture" // what the others are compared with
	ownCapture = "pg_courier"
)

// captures are the ways to capture.
var captures = []*capture{
	{name: uncaptured, title: "no replication, or one that reads the WAL: wal_level is logical everywhere", share: 1,
		install: func(context.Context, *server, []*table) error { return nil }},
	{name: "empty trigger", title: "a plpgsql row trigger that does nothing", share: 1, install: captureNothing},
	{name: ownCapture, title: "pg_courier's C trigger", share: 1, install: captureCourier,
		empty: "TRUNCATE courier.queue_0, courier.queue_1, courier.queue_2"},
	{name: "slony", title: "Slony-I's C trigger", needs: slonyNeeds, share: 1, install: captureSlony, empty: "TRUNCATE _bench.sl_log_1, _bench.sl_log_2"},
	{name: "pgq", title: "PgQ's C trigger, which Londiste uses", needs: pgqNeeds, share: 1, install: capturePgQ, empty: pgqEmpty},
	{name: "bucardo", title: "Bucardo's triggers", needs: bucardoNeeds, share: 1, install: captureBucardo, empty: bucardoEmpty},
	{name: "jsonb-queue", title: "a plpgsql trigger that queues jsonb", share: 1, install: captureJSONB, empty: "TRUNCATE change"},
	{name: "dblink-row", title: "a plpgsql trigger that sends each row over dblink, to another database of the server", share: 0.02, install: captureDblink},
}

func captureNames() []string {
	var names []string
	for _, c := range captures {
		names = append(names, c.name)
	}
	return names
}

// captureNothing is what a trigger costs at least.
func captureNothing(ctx context.Context, s *server, tables []*table) error {
	return s.trigger(ctx, tables, "noop", `CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
}

// trigger makes a function and a row trigger for it on tables.
func (s *server) trigger(ctx context.Context, tables []*table, function, create string) error {
	if err := s.exec(ctx, create); err != nil {
		return err
	}
	for _, t := range tables {
		if err := s.exec(ctx, fmt.Sprintf(
			"CREATE TRIGGER %s AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %[1]s()", function, t.name)); err != nil {
			return err
		}
	}
	return nil
}

// captureCourier makes a disabled subscription, which captures all the same.
func captureCourier(ctx context.Context, s *server, tables []*table) error {
	p := &pair{source: s, target: &server{Cluster: &pgtest.Cluster{SocketDir: "127.0.0.1", Port: 1}, database: "none"}, tables: tables}
	_, err := p.subscribe(ctx, "none")
	return err
}

// startCaptures starts a server with a database for each way that is there, the
// tables in it.
func (b *bench) startCaptures(ctx context.Context, tables []*table, prepare func(s *server) error) (map[string]*server, []*capture, error) {
	first, err := startServer(ctx, "capture", pgtest.Preload(true), pgtest.Setting("courier.workers", "off"))
	if err != nil {
		return nil, nil, err
	}
	databases := make(map[string]*server)
	var there []*capture
	for _, way := range b.ways {
		absent, err := way.needs.missing()
		if err != nil {
			return nil, nil, err
		}
		if len(absent) > 0 {
			packages, err := way.needs.packageNames()
			if err != nil {
				return nil, nil, err
			}
			b.report.leaveOut(way.name, absent, packages)
			progress("left out: %s", b.report.Absent[len(b.report.Absent)-1])
			continue
		}
		s, err := first.create(ctx, fmt.Sprintf("c%d", len(there)))
		if err != nil {
			return nil, nil, err
		}
		if err := prepare(s); err != nil {
			return nil, nil, err
		}
		if err := way.install(ctx, s, tables); err != nil {
			return nil, nil, fmt.Errorf("install %s: %w", way.name, err)
		}
		there = append(there, way)
		databases[way.name] = s
	}
	return databases, there, nil
}

// captureDblink sends rows to a twin of the database.
func captureDblink(ctx context.Context, s *server, tables []*table) error {
	target, err := s.twin(ctx, tables)
	if err != nil {
		return err
	}
	defer target.disconnect()
	return captureRowByRow(ctx, s, tables, target.near())
}

// twin makes another database with empty tables like some of the server's.
func (s *server) twin(ctx context.Context, tables []*table) (*server, error) {
	target, err := s.create(ctx, s.database+"_target")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, t := range tables {
		columns, err := s.text(ctx, fmt.Sprintf(`SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped`, t.name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "CREATE TABLE %s (%s, PRIMARY KEY (%s));\n", t.name, columns, t.key)
	}
	return target, target.exec(ctx, b.String())
}
