package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// captureStatements are timed, in this order, each with its commit. %s is the
// table.
var captureStatements = []struct {
	name  string
	table *table
	share float64 // of the rows
	sql   func(rows int) string
}{
	{"insert", accounts, 1, func(rows int) string { return insertAccounts("acc", 1, rows) }},
	{"update", accounts, 1, func(int) string { return "UPDATE acc SET abalance = abalance + 1" }},
	{"delete", accounts, 1, func(int) string { return "DELETE FROM acc" }},
	{"insert of rows of 2 kB", wide, 0.1, func(rows int) string { return insertWide("wide", "1", fmt.Sprint(rows)) }},
	{"update of rows of 2 kB", wide, 0.1, func(int) string { return "UPDATE wide SET v = v + 1" }},
}

var capturedTables = []*table{accounts, wide}

// measureCapture times statements on captured tables.
func (b *bench) measureCapture(ctx context.Context) error {
	databases, ways, err := b.startCaptures(ctx, capturedTables, func(s *server) error {
		return s.exec(ctx, createTables(capturedTables))
	})
	if err != nil {
		return err
	}
	defer databases[uncaptured].destroy()
	// Round 0 warms up: files, caches, the backends' own memory.
	return rounds(b, ctx, 0, b.captureRounds, ways, func(c *capture) string { return c.name }, func(way *capture, round int) error {
		return b.captureRound(ctx, databases[way.name], way, round)
	})
}

// captureRound times the statements with one way to capture.
func (b *bench) captureRound(ctx context.Context, s *server, way *capture, round int) error {
	var names []string
	for _, t := range capturedTables {
		names = append(names, t.name)
	}
	if err := s.exec(ctx, "TRUNCATE "+strings.Join(names, ", ")); err != nil {
		return err
	}
	pid := int(s.conn.PgConn().PID())
	for _, statement := range captureStatements {
		rows := max(int(float64(b.captureRows)*statement.share*way.share), 1)
		if way.empty != "" {
			if err := s.exec(ctx, way.empty); err != nil {
				return err
			}
		}
		meter, err := startMeter(ctx, map[place][]*server{onSource: {s}})
		if err != nil {
			return err
		}
		if err := s.exec(ctx, "CHECKPOINT"); err != nil {
			return err
		}
		before, err := cpuSeconds(pid)
		if err != nil {
			return err
		}
		started := time.Now()
		if err := s.exec(ctx, statement.sql(rows)); err != nil {
			return err
		}
		wall := time.Since(started).Seconds()
		after, err := cpuSeconds(pid)
		if err != nil {
			return err
		}
		wal, err := meter.walWritten(ctx)
		if err != nil {
			return err
		}
		perRow := 1e6 / float64(rows)
		if round > 0 {
			b.record(sample{Case: statement.name, System: way.name, Round: round, Values: map[string]float64{
				"wall": wall * perRow, "cpu": (after - before) * perRow, "rows": float64(rows),
				"wal": (wal[onSource] - meter.wal[onSource]) / float64(rows),
			}})
		}
	}
	return nil
}
