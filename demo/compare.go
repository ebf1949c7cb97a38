package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// contents counts a table's rows and hashes them, sorted.
type contents struct {
	rows int64
	hash string
}

func (s *server) contents(ctx context.Context, table string) (contents, error) {
	conn, err := s.Open(ctx, s.Name)
	if err != nil {
		return contents{}, err
	}
	defer conn.Close(context.Background())
	var c contents
	err = conn.QueryRow(ctx, `
		SELECT count(*), md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C"), ''))
		FROM `+pgx.Identifier{table}.Sanitize()+` t`).Scan(&c.rows, &c.hash)
	if err != nil {
		return contents{}, fmt.Errorf("read %s on %s: %w", table, s.Name, err)
	}
	return c, nil
}

// compare prints every table of both sides and fails on any difference.
func compare(ctx context.Context, source, target *server) error {
	const line = "%-17s  %16v  %16v  %-32s  %-32s  %s\n"
	fmt.Printf(line, "table", source.Name+" rows", target.Name+" rows",
		source.Name+" md5, sorted", target.Name+" md5, sorted", "result")
	different := 0
	for _, table := range tables {
		a, err := source.contents(ctx, table)
		if err != nil {
			return err
		}
		b, err := target.contents(ctx, table)
		if err != nil {
			return err
		}
		verdict := "equal"
		if a != b {
			verdict = "DIFFERENT"
			different++
		}
		fmt.Printf(line, table, a.rows, b.rows, a.hash, b.hash, verdict)
	}
	if different > 0 {
		return fmt.Errorf("compare %s with %s: %d of %d tables differ", source.Name, target.Name, different, len(tables))
	}
	history, err := source.contents(ctx, "pgbench_history")
	if err != nil {
		return err
	}
	if history.rows == 0 {
		return errors.New("compare: pgbench_history is empty, so nothing was tested")
	}
	fmt.Printf("\nAll %d tables are equal.\n", len(tables))
	return nil
}
