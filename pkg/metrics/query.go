package metrics

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// countedChunks is up to where a backlog is counted; beyond it is estimated.
// Either takes a few milliseconds, so that 200 subscriptions to dead nodes take a
// second or two.
const countedChunks = 5000

// values is what a database says of itself.
type values struct {
	queueBytes    *float64
	oldestChange  *float64 // seconds
	subscriptions []subscriptionValues
}

// subscriptionValues are one subscription's; nil is unknown.
type subscriptionValues struct {
	name, node, state        string
	lagBytes, lagSeconds     *float64
	pendingChanges, deadOnes *float64

	copyTables, copyRows, copyBytes, copyBytesTotal, copyRate *float64 // of tables that are yet to be copied
}

// connect opens a session whose statements the server itself ends in time,
// also when this process has lost sight of them.
func connect(ctx context.Context, dsn string) (*session.PGX, error) {
	s, err := session.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	_, err = s.Query(ctx, `SELECT pg_catalog.set_config('statement_timeout', $1, false),
		pg_catalog.set_config('lock_timeout', $1, false),
		pg_catalog.set_config('application_name', 'pg_courier metrics', false)`,
		strconv.FormatInt(collectDeadline.Milliseconds(), 10))
	if err != nil {
		s.Close(ctx)
		return nil, fmt.Errorf("limit the time of statements: %w", err)
	}
	return s, nil
}

// The queue's sizes and its oldest change, by an index: the first in the order of
// shipping is the oldest but for milliseconds.
const queueSQL = `SELECT
	(SELECT sum(pg_catalog.pg_total_relation_size(c.oid)) FROM pg_catalog.pg_class AS c
	 WHERE c.relnamespace = 'courier'::pg_catalog.regnamespace AND c.relkind = 'r' AND c.relname ~ '^queue_[0-9]+$'),
	(SELECT greatest(extract(epoch FROM pg_catalog.clock_timestamp()) - (q.clock >> 16) / 1000.0, 0)
	 FROM courier.queue_chunk AS q ORDER BY q.k LIMIT 1)`

// As courier.subscription_status, which would count all of a long backlog. The
// letters that count are those of its column dead_letters; "state" is that of the
// letter, or 'open' in a version whose letters have none.
const subscriptionsSQL = `SELECT s.subscription_name, s.node_name,
	CASE WHEN s.enabled THEN coalesce(t.state, 'disabled') ELSE 'disabled' END,
	b.bytes,
	CASE WHEN b.changes IS NULL THEN NULL WHEN b.oldest_clock IS NULL THEN 0
	     ELSE greatest(extract(epoch FROM pg_catalog.clock_timestamp()) - (b.oldest_clock >> 16) / 1000.0, 0) END,
	b.changes,
	coalesce(d.dead, 0),
	coalesce(c.tables, 0), coalesce(c.rows, 0), coalesce(c.bytes, 0), coalesce(c.total, 0),
	coalesce((SELECT sum(v.bytes_per_second) FROM courier.copy_status AS v WHERE v.subscription_name = s.subscription_name), 0)
	FROM courier.subscription AS s
	LEFT JOIN courier.subscription_state AS t ON t.subscription_id = s.subscription_id
	LEFT JOIN LATERAL courier.backlog_estimate(coalesce(t.position, s.start_position::text), $1::int4) AS b ON true
	LEFT JOIN (SELECT l.subscription_id, count(*) AS dead
	           FROM (SELECT 'open'::text AS state) AS f CROSS JOIN LATERAL (
	               SELECT e.subscription_id FROM courier.dead_letter_entry AS e
	               WHERE state IN ('open', 'skipped', 'retrying')) AS l
	           GROUP BY 1) AS d ON d.subscription_id = s.subscription_id
	LEFT JOIN (SELECT p.subscription_id, count(*) AS tables, sum(p.rows_copied) AS rows, sum(p.bytes_copied) AS bytes,
	                  sum(p.bytes_total) AS total
	           FROM courier.copy_progress AS p WHERE p.state IN ('waiting', 'copying', 'verifying')
	           GROUP BY 1) AS c ON c.subscription_id = s.subscription_id`

// query collects from a database.
func query(ctx context.Context, s session.Session) (*values, error) {
	rows, err := s.Query(ctx, queueSQL)
	if err != nil {
		return nil, fmt.Errorf("ask for the size of the queue: %w", err)
	}
	v := &values{}
	if v.queueBytes, err = number(rows[0][0]); err != nil {
		return nil, err
	}
	if v.oldestChange, err = number(rows[0][1]); err != nil {
		return nil, err
	}
	rows, err = s.Query(ctx, subscriptionsSQL, strconv.Itoa(countedChunks))
	if err != nil {
		return nil, fmt.Errorf("ask for the subscriptions: %w", err)
	}
	for _, row := range rows {
		sub := subscriptionValues{name: string(row[0]), node: string(row[1]), state: string(row[2])}
		for i, to := range []**float64{&sub.lagBytes, &sub.lagSeconds, &sub.pendingChanges, &sub.deadOnes,
			&sub.copyTables, &sub.copyRows, &sub.copyBytes, &sub.copyBytesTotal, &sub.copyRate} {
			if *to, err = number(row[3+i]); err != nil {
				return nil, err
			}
		}
		v.subscriptions = append(v.subscriptions, sub)
	}
	return v, nil
}

// number reads a value; nil for NULL.
func number(text []byte) (*float64, error) {
	if text == nil {
		return nil, nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return nil, fmt.Errorf("read a number of the database: %w", err)
	}
	return &f, nil
}
