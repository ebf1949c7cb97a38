package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// capturePeer is a way to capture, on a table of its own in one database.
type capturePeer struct {
	Name    string
	table   string
	install string // statements, once
	empty   string // statements, before each measurement
}

// capturePeers: the first is what the others are compared with.
var capturePeers = []capturePeer{
	{
		Name:  "no capture",
		table: "acc_plain",
	},
	{
		Name:  "empty plpgsql trigger",
		table: "acc_noop",
		install: `CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER noop AFTER INSERT OR UPDATE OR DELETE ON acc_noop FOR EACH ROW EXECUTE FUNCTION noop()`,
	},
	{
		Name:  "pg_courier",
		table: "acc_courier",
		// A disabled subscription captures all the same; nobody ships.
		install: `CREATE EXTENSION pg_courier CASCADE;
			SELECT courier.set_local_node('source');
			SELECT courier.create_node('target', 'host=127.0.0.1 port=1 dbname=none');
			SELECT courier.replication_set_add_table('default', 'acc_courier');
			SELECT courier.create_subscription('s', 'target', copy_data => false, enabled => false)`,
		empty: `TRUNCATE courier.queue_0, courier.queue_1, courier.queue_2`,
	},
}

// captureStatements are timed, in this order, each with its commit. The limit
// is what pg_courier may add, in µs a row.
var captureStatements = []struct {
	name  string
	limit float64
	sql   func(table string, rows int) string
}{
	{"insert", 1.5, func(table string, rows int) string {
		return "INSERT INTO " + table + " " + fmt.Sprintf(rowsOf, 1, rows)
	}},
	{"update", 2.2, func(table string, _ int) string {
		return "UPDATE " + table + " SET abalance = abalance + 1"
	}},
}

// captureRun is one timed statement.
type captureRun struct {
	Round     int     `json:"round"`
	System    string  `json:"system"`
	Statement string  `json:"statement"`
	Rows      int     `json:"rows"`
	Wall      float64 `json:"wall_us_per_row"`
	CPU       float64 `json:"cpu_us_per_row"` // of the backend
}

func measureCapture(ctx context.Context, c *config) ([]captureRun, error) {
	s, err := startServer(ctx, "capture", pgtest.Preload(true), pgtest.Setting("courier.workers", "off"))
	if err != nil {
		return nil, err
	}
	defer s.destroy()
	for _, peer := range capturePeers {
		for _, sql := range []string{fmt.Sprintf(createTable, peer.table), peer.install} {
			if err := s.exec(ctx, sql); err != nil {
				return nil, fmt.Errorf("install %s: %w", peer.Name, err)
			}
		}
	}

	var runs []captureRun
	// Round 0 warms up: files, caches, the backend's own memory.
	for round := 0; round <= c.captureRounds; round++ {
		for i := range capturePeers {
			peer := &capturePeers[(i+round)%len(capturePeers)]
			fresh, err := s.captureRound(ctx, peer, c.captureRows)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", peer.Name, err)
			}
			for _, run := range fresh {
				if run.Round = round; round > 0 {
					runs = append(runs, run)
				}
			}
		}
		progress("capture: round %d of %d done", round, c.captureRounds)
	}
	return runs, nil
}

// captureRound times the statements on one peer's table, emptied before.
func (s *server) captureRound(ctx context.Context, peer *capturePeer, rows int) ([]captureRun, error) {
	if err := s.exec(ctx, "TRUNCATE "+peer.table); err != nil {
		return nil, err
	}
	pid := int(s.conn.PgConn().PID())
	var runs []captureRun
	for _, statement := range captureStatements {
		if peer.empty != "" {
			if err := s.exec(ctx, peer.empty); err != nil {
				return nil, err
			}
		}
		if err := s.exec(ctx, "CHECKPOINT"); err != nil {
			return nil, err
		}
		before, err := cpuSeconds(pid)
		if err != nil {
			return nil, err
		}
		started := time.Now()
		if err := s.exec(ctx, statement.sql(peer.table, rows)); err != nil {
			return nil, err
		}
		wall := time.Since(started).Seconds()
		after, err := cpuSeconds(pid)
		if err != nil {
			return nil, err
		}
		perRow := 1e6 / float64(rows)
		runs = append(runs, captureRun{System: peer.Name, Statement: statement.name, Rows: rows,
			Wall: wall * perRow, CPU: (after - before) * perRow})
	}
	return runs, nil
}
