package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// jsonbQueue is what is made at home: a plpgsql trigger that puts each row as
// jsonb into a queue, and a loop that sends what is in it over dblink, a batch at
// a time, and deletes it. It is not exactly once: a batch that was applied is
// sent again if the loop ends before it has deleted it.
type jsonbQueue struct {
	*pair
	resident
	cancel context.CancelFunc // nil when it does not run
	done   chan error
}

const jsonbInstall = `
CREATE TABLE change (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, relation name NOT NULL, kind "char" NOT NULL, content jsonb NOT NULL);
CREATE TABLE statement (relation name PRIMARY KEY, upsert text NOT NULL, remove text NOT NULL);
CREATE FUNCTION to_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO change (relation, kind, content) VALUES (TG_TABLE_NAME, 'd', to_jsonb(OLD));
	ELSE
		INSERT INTO change (relation, kind, content) VALUES (TG_TABLE_NAME, 'u', to_jsonb(NEW));
	END IF;
	RETURN NULL;
END $$`

// jsonbStatements prepares what is sent for a row of a table; %L is its content.
const jsonbStatements = `INSERT INTO statement
	SELECT '%[1]s', 'INSERT INTO %[1]s SELECT * FROM jsonb_populate_record(NULL::%[1]s, %%L) ON CONFLICT (%[2]s) DO UPDATE SET '
		|| string_agg(format('%%1$I = EXCLUDED.%%1$I', attname), ', ' ORDER BY attnum),
		'DELETE FROM %[1]s WHERE %[2]s = (%%L::jsonb ->> ''%[2]s'')::' || (SELECT format_type(atttypid, atttypmod)
			FROM pg_attribute WHERE attrelid = '%[1]s'::regclass AND attname = '%[2]s')
	FROM pg_attribute WHERE attrelid = '%[1]s'::regclass AND attnum > 0 AND NOT attisdropped`

const jsonbBatch = 1000

// jsonbLoop sends batches until it is cancelled.
const jsonbLoop = `
CREATE PROCEDURE send_queue() LANGUAGE plpgsql AS $$
DECLARE
	ids int8[];
	batch text;
BEGIN
	PERFORM dblink_connect('target', '%s');
	LOOP
		SELECT array_agg(b.id), string_agg(format(CASE b.kind WHEN 'd' THEN s.remove ELSE s.upsert END, b.content), '; ' ORDER BY b.id)
		INTO ids, batch
		FROM (SELECT * FROM change ORDER BY id LIMIT %d) AS b JOIN statement AS s USING (relation);
		IF ids IS NULL THEN
			COMMIT;
			PERFORM pg_sleep(0.01);
		ELSE
			PERFORM dblink_exec('target', batch);
			DELETE FROM change WHERE id = ANY (ids);
			COMMIT;
		END IF;
	END LOOP;
END $$`

// captureJSONB is the trigger's half.
func captureJSONB(ctx context.Context, s *server, tables []*table) error {
	return s.trigger(ctx, tables, "to_queue", jsonbInstall)
}

func newJSONBQueue(ctx context.Context, p *pair, _ *config) (shipper, error) {
	if err := captureJSONB(ctx, p.source, p.tables); err != nil {
		return nil, err
	}
	statements := []string{"CREATE EXTENSION dblink"}
	for _, t := range p.tables {
		statements = append(statements, fmt.Sprintf(jsonbStatements, t.name, t.key))
	}
	statements = append(statements, fmt.Sprintf(jsonbLoop, p.targetFromSource().conninfo()+" options=''-c session_replication_role=replica''", jsonbBatch))
	return &jsonbQueue{pair: p}, p.source.exec(ctx, strings.Join(statements, ";\n"))
}

func (q *jsonbQueue) start(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, q.source.SocketDSN(q.source.database)+" application_name=queue")
	if err != nil {
		return fmt.Errorf("connect the loop: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	q.cancel, q.done = cancel, make(chan error, 1)
	go func() {
		_, err := conn.Exec(running, "CALL send_queue()", pgx.QueryExecModeSimpleProtocol)
		if running.Err() != nil {
			err = nil // it was told to
		}
		conn.Close(context.WithoutCancel(running))
		q.done <- err
	}()
	return nil
}

func (q *jsonbQueue) fault(context.Context) error {
	select {
	case err := <-q.done:
		q.done <- err // for close
		return errors.Join(errors.New("the loop has ended"), err)
	default:
		return nil
	}
}

// stop lets the batch under way be deleted before.
func (q *jsonbQueue) stop(ctx context.Context) error {
	if err := q.source.await(ctx, "SELECT count(*) = 0 FROM change"); err != nil {
		return fmt.Errorf("wait for the queue to be empty: %w", err)
	}
	if err := q.close(); err != nil {
		return err
	}
	return q.source.await(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'queue'")
}

func (q *jsonbQueue) close() error {
	if q.cancel == nil {
		return nil
	}
	q.cancel()
	q.cancel = nil
	if err := <-q.done; err != nil {
		return fmt.Errorf("send the queue: %w", err)
	}
	return nil
}
