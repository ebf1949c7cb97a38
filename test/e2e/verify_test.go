package e2e

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// shownRows is how many differing rows of a table a failure shows.
const shownRows = 5

// requireEqual compares whole tables of both sides: the number of rows, and a
// hash of the rows sorted. It compares the columns that the source's table has,
// by name, and shows the first rows that only one side has.
func (r *replica) requireEqual(tables ...string) {
	r.t.Helper()
	require.NotEmpty(r.t, tables)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	source, err := r.source.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer source.Close(ctx)
	target, err := r.target.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer target.Close(ctx)

	for _, table := range tables {
		row, err := rowExpression(ctx, source, table)
		require.NoError(r.t, err)
		a, err := readContents(ctx, source, table, row)
		require.NoError(r.t, err, "on the source")
		b, err := readContents(ctx, target, table, row)
		require.NoError(r.t, err, "on the target")
		if a == b {
			continue
		}
		difference, err := differingRows(ctx, source, target, table, row)
		require.NoError(r.t, err)
		r.t.Errorf("table %s differs: %d rows on the source, %d on the target\n%s", table, a.rows, b.rows, difference)
	}
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// contents is how many rows a table has, and their hash.
type contents struct {
	rows int64
	hash string
}

// rowExpression is the text form of a row of a table, its columns in the order
// of their names.
func rowExpression(ctx context.Context, conn *pgx.Conn, table string) (string, error) {
	var row string
	err := conn.QueryRow(ctx, `SELECT 'ROW(' || string_agg('t.' || quote_ident(attname) || '::text', ', ' ORDER BY attname) || ')::text'
		FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped`, table).Scan(&row)
	if err != nil {
		return "", fmt.Errorf("read the columns of %s: %w", table, err)
	}
	return row, nil
}

func readContents(ctx context.Context, conn *pgx.Conn, table, row string) (contents, error) {
	var c contents
	err := conn.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), md5(coalesce(string_agg(md5(%[1]s), '' ORDER BY %[1]s COLLATE "C"), ''))
		FROM %[2]s t`, row, table)).Scan(&c.rows, &c.hash)
	if err != nil {
		return c, fmt.Errorf("read table %s: %w", table, err)
	}
	return c, nil
}

// differingRows lists rows that one side has more often than the other.
func differingRows(ctx context.Context, source, target *pgx.Conn, table, row string) (string, error) {
	surplus := make(map[string]int64) // positive: on the source
	for conn, sign := range map[*pgx.Conn]int64{source: 1, target: -1} {
		rows, err := conn.Query(ctx, fmt.Sprintf("SELECT %s AS r, count(*) FROM %s t GROUP BY 1", row, table))
		if err != nil {
			return "", fmt.Errorf("read table %s: %w", table, err)
		}
		var text string
		var count int64
		_, err = pgx.ForEachRow(rows, []any{&text, &count}, func() error {
			surplus[text] += sign * count
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read table %s: %w", table, err)
		}
	}
	return surplusLines(surplus), nil
}

// surplusLines shows some of the rows of which one side has more: a positive
// number is how many the source has.
func surplusLines(surplus map[string]int64) string {
	var lines []string
	for text, count := range surplus {
		switch {
		case count > 0:
			lines = append(lines, fmt.Sprintf("  %s  source only, %d times", shorten(text), count))
		case count < 0:
			lines = append(lines, fmt.Sprintf("  %s  target only, %d times", shorten(text), -count))
		}
	}
	sort.Strings(lines)
	if len(lines) > shownRows {
		lines = append(lines[:shownRows], fmt.Sprintf("  and %d more", len(lines)-shownRows))
	}
	return strings.Join(lines, "\n")
}

// shorten keeps a wide row readable.
func shorten(text string) string {
	if len(text) <= 160 {
		return text
	}
	return fmt.Sprintf("%s…%s (%d bytes)", text[:110], text[len(text)-40:], len(text))
}

// onlyValue gives a query's one value, or why there is none: the cluster may be
// down.
func onlyValue(ctx context.Context, cluster *pgtest.Cluster, sql string) (string, error) {
	conn, err := cluster.Open(ctx, appDatabase)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var value string
	err = conn.QueryRow(ctx, sql).Scan(&value)
	return value, err
}
