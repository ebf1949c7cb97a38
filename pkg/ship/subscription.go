package ship

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/render"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// Subscription is a row of courier.subscription with what belongs to it.
type Subscription struct {
	ID          int
	Name        string
	Node        string
	Server      string // foreign server of dblink_fdw
	ProgressKey string // uuid
	LocalNode   string
	Source      string // system identifier and database
	CopyData    bool
	Start       string // position, as text
	Options     Options
	Sets        []string // its replication sets
	Generation  int64
	Tables      []Table
}

// Options is courier.subscription.options as far as shipping goes by it.
type Options struct {
	OnConflict string      `json:"on_conflict"`
	OnError    string      `json:"on_error"`
	BatchRows  json.Number `json:"batch_rows"`
	BatchBytes json.Number `json:"batch_bytes"`
	DDLRole    string      `json:"ddl_role"`

	CopyWorkers json.Number `json:"copy_workers"`
	CopyRate    json.Number `json:"copy_rate"`
	CopyIndexes string      `json:"copy_indexes"`

	SynchronizeStructure string `json:"synchronize_structure"`
}

// Table is a table of a subscription.
type Table struct {
	OID          uint32
	Schema, Name string
	Filter       render.Filter
	Added        change.Snapshot // transactions it sees are not shipped
	Dropped      bool            // it is no more; there may be changes of it in the queue
	members      []member        // nil if all rows are sent
}

// Policy is the on_conflict option.
func (o Options) Policy() render.Policy {
	switch o.OnConflict {
	case "keep_local":
		return render.KeepLocal
	case "error":
		return render.Error
	}
	return render.ApplyRemote
}

// setsAside says that transactions the node refuses become dead letters.
func (o Options) setsAside() bool { return o.OnError == "dead_letter" }

// standardWorkers is how many chunks are copied at once where the options say
// nothing: while the node works on one, the next is read.
const standardWorkers = 2

func (o Options) copyWorkers() int { return min(numberOr(o.CopyWorkers, standardWorkers), mostWorkers) }

// mostWorkers bounds the connections to a node.
const mostWorkers = 64

// copyRate is how many bytes of rows may be copied in a second; 0 for no limit.
func (o Options) copyRate() int64 { return int64(numberOr(o.CopyRate, 0)) << 10 }

func numberOr(number json.Number, standard int) int {
	n, err := strconv.Atoi(number.String())
	if err != nil || n < 1 {
		return standard
	}
	return n
}

// Assignment is a subscription that somebody is to ship.
type Assignment struct {
	ID         int
	Name, Node string
}

// Assigned lists the enabled subscriptions that the given kind of shipper is to
// ship (driver option), in order of their ids. An empty kind is a session, which
// ships what it is told to.
func Assigned(ctx context.Context, s session.Session, kind string) ([]Assignment, error) {
	rows, err := s.Query(ctx, `SELECT subscription_id, subscription_name, node_name FROM courier.subscription
		WHERE enabled AND ($1 = '' OR coalesce(options ->> 'driver', 'auto') IN ('auto', $1))
		ORDER BY subscription_id`, kind)
	if err != nil {
		return nil, fmt.Errorf("list the subscriptions: %w", err)
	}
	assigned := make([]Assignment, len(rows))
	for i, row := range rows {
		id, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return nil, fmt.Errorf("list the subscriptions: %w", err)
		}
		assigned[i] = Assignment{ID: id, Name: string(row[1]), Node: string(row[2])}
	}
	return assigned, nil
}

// GoneError says that a subscription is not there to be shipped: dropped or
// disabled.
type GoneError struct{ Err *session.Error }

// Error implements error.
func (e *GoneError) Error() string { return e.Err.Error() }

// Unwrap returns the error with its hint.
func (e *GoneError) Unwrap() error { return e.Err }

// Load reads a subscription. A *GoneError with SQLSTATE 42704 means that there is
// none of that name, with 55000 that it is disabled.
func Load(ctx context.Context, s session.Session, name string) (*Subscription, error) {
	rows, err := s.Query(ctx,
		`SELECT s.subscription_id, s.node_name, n.server_name, s.progress_key, s.enabled,
		        s.copy_data, s.start_position, s.options,
		        (SELECT generation FROM courier.configuration),
		        coalesce((SELECT node_name::pg_catalog.text FROM courier.local_node), current_database()),
		        (SELECT system_identifier FROM pg_catalog.pg_control_system()) || '/' ||
		        (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
		        pg_catalog.array_to_string(s.replication_sets, E'\x01')
		 FROM courier.subscription s JOIN courier.node n USING (node_name)
		 WHERE s.subscription_name = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("read subscription %s: %w", name, err)
	}
	if len(rows) == 0 {
		return nil, &GoneError{&session.Error{SQLState: "42704",
			Message: fmt.Sprintf("subscription %q does not exist", name),
			Hint:    "SELECT subscription_name FROM courier.subscription_status lists them."}}
	}
	row := rows[0]
	if string(row[4]) != "t" {
		return nil, &GoneError{&session.Error{SQLState: "55000",
			Message: fmt.Sprintf("subscription %q is disabled", name),
			Hint:    fmt.Sprintf("Run SELECT courier.alter_subscription_enable('%s').", name)}}
	}
	sub := &Subscription{Name: name, Node: string(row[1]), Server: string(row[2]),
		ProgressKey: string(row[3]), CopyData: string(row[5]) == "t", Start: string(row[6]),
		LocalNode: string(row[9]), Source: string(row[10]),
		Sets: strings.Split(string(row[11]), "\x01")}
	if sub.ID, err = strconv.Atoi(string(row[0])); err != nil {
		return nil, fmt.Errorf("read subscription %s: %w", name, err)
	}
	if sub.Generation, err = strconv.ParseInt(string(row[8]), 10, 64); err != nil {
		return nil, fmt.Errorf("read subscription %s: %w", name, err)
	}
	if err = json.Unmarshal(row[7], &sub.Options); err != nil {
		return nil, fmt.Errorf("read the options of subscription %s: %w", name, err)
	}
	sub.Tables, err = Tables(ctx, s, sub.ID)
	return sub, err
}

// Tables lists the tables of a subscription, in order of their names, and then
// those that were dropped and of which the queue may still have changes.
func Tables(ctx context.Context, s session.Session, id int) ([]Table, error) {
	// Names are joined by a character no name can hold.
	rows, err := s.Query(ctx,
		`SELECT relation::pg_catalog.oid, schema_name, table_name,
		        pg_catalog.array_to_string(columns, E'\x01'),
		        replicate_insert, replicate_update, replicate_delete, replicate_truncate, added, false
		 FROM courier.subscription_table WHERE subscription_id = $1::pg_catalog.int4
		 UNION ALL
		 SELECT relation, schema_name, table_name, pg_catalog.array_to_string(columns, E'\x01'),
		        replicate_insert, replicate_update, replicate_delete, replicate_truncate, added, true
		 FROM courier.dropped_table WHERE subscription_id = $1::pg_catalog.int4
		 ORDER BY 10, 2, 3`, strconv.Itoa(id))
	if err != nil {
		return nil, fmt.Errorf("read the subscription's tables: %w", err)
	}
	tables := make([]Table, len(rows))
	for i, row := range rows {
		t := &tables[i]
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the subscription's tables: %w", err)
		}
		t.OID, t.Schema, t.Name = uint32(oid), string(row[1]), string(row[2])
		if row[3] != nil {
			t.Filter.Columns = make(map[string]bool)
			for column := range strings.SplitSeq(string(row[3]), "\x01") {
				t.Filter.Columns[column] = true
			}
		}
		t.Filter.Insert = string(row[4]) == "t"
		t.Filter.Update = string(row[5]) == "t"
		t.Filter.Delete = string(row[6]) == "t"
		t.Filter.Truncate = string(row[7]) == "t"
		t.Dropped = string(row[9]) == "t"
		if t.Added, err = change.ParseSnapshot(string(row[8])); err != nil {
			return nil, fmt.Errorf("read the subscription's tables: %w", err)
		}
	}
	return tables, loadMembers(ctx, s, id, tables)
}
