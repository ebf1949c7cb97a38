package health

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// definitions reads how the nodes are reached. Of options, which hold passwords,
// only a hash is taken, to notice a change.
const definitions = `SELECT n.node_name, n.server_name,
	pg_catalog.hashtextextended(pg_catalog.concat_ws(E'\n', s.oid, s.srvoptions,
		(SELECT pg_catalog.string_agg(m.umuser::pg_catalog.text || m.umoptions::pg_catalog.text, E'\n')
		 FROM pg_catalog.pg_user_mappings m
		 WHERE m.srvid = s.oid AND m.umuser IN (0, r.oid))), 0),
	EXISTS (SELECT FROM pg_catalog.unnest(s.srvoptions) AS o WHERE o ~ '^host(addr)?=.*,')
FROM courier.node n
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
LEFT JOIN pg_catalog.pg_foreign_server s ON s.srvname = n.server_name`

// read finds nodes that are new, changed or gone.
func (h *home) read(ctx context.Context) error {
	rows, err := h.session.Query(ctx, definitions)
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	defined := make(map[string]definition, len(rows))
	for _, row := range rows {
		defined[string(row[0])] = definition{server: string(row[1]), fingerprint: string(row[2]),
			severalHosts: string(row[3]) == "t"}
	}
	if h.prober.adopt(defined) {
		_, err = h.session.Query(ctx, removeStates)
	}
	return h.unwritten(err)
}

// record is a row of courier.node_state. Times are RFC 3339, intervals seconds.
type record struct {
	Node       string     `json:"node_name"`
	State      State      `json:"state"`
	Since      time.Time  `json:"since"`
	Reason     *string    `json:"reason"`
	SQLState   *string    `json:"sqlstate"`
	Latency    *float64   `json:"latency"`
	Version    *string    `json:"server_version"`
	InRecovery *bool      `json:"in_recovery"`
	ReadOnly   *bool      `json:"read_only"`
	Offset     *float64   `json:"clock_offset"`
	Left       *int       `json:"connections_left"`
	ProbedAt   *time.Time `json:"probed_at"`
	NextProbe  time.Time  `json:"next_probe_at"`
}

func newRecord(s Status) record {
	r := record{Node: s.Node, State: s.State, Since: s.Since, NextProbe: s.NextProbe,
		Reason: present(s.Reason), SQLState: present(s.SQLState), Version: present(s.ServerVersion),
		ProbedAt: present(s.ProbedAt)}
	if s.ServerVersion != "" {
		latency, offset := s.Latency.Seconds(), s.ClockOffset.Seconds()
		r.Latency, r.Offset, r.InRecovery, r.ReadOnly = &latency, &offset, &s.InRecovery, &s.ReadOnly
	}
	if s.ConnectionsLeft >= 0 {
		r.Left = &s.ConnectionsLeft
	}
	return r
}

// present is nil for the zero value.
func present[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// writeStates leaves alone what another prober of this database has written a
// moment ago, and keeps the beginning of a state that it has seen first.
const writeStates = `INSERT INTO courier.node_state AS s (node_name, state, since, reason, sqlstate, latency,
	server_version, in_recovery, read_only, clock_offset, connections_left, probed_at, next_probe_at, updated_at)
SELECT r.node_name, r.state, r.since, r.reason, r.sqlstate, r.latency * interval '1 second',
       r.server_version, r.in_recovery, r.read_only, r.clock_offset * interval '1 second', r.connections_left,
       r.probed_at, r.next_probe_at, pg_catalog.clock_timestamp()
FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS r (
	node_name pg_catalog.name, state pg_catalog.text, since pg_catalog.timestamptz, reason pg_catalog.text,
	sqlstate pg_catalog.text, latency pg_catalog.float8, server_version pg_catalog.text,
	in_recovery pg_catalog.bool, read_only pg_catalog.bool, clock_offset pg_catalog.float8,
	connections_left pg_catalog.int4, probed_at pg_catalog.timestamptz, next_probe_at pg_catalog.timestamptz)
JOIN courier.node n ON n.node_name = r.node_name
ORDER BY r.node_name
ON CONFLICT (node_name) DO UPDATE SET
	state = excluded.state,
	since = CASE WHEN s.state = excluded.state AND s.updated_at > excluded.updated_at - interval '2 min'
	             THEN least(s.since, excluded.since) ELSE excluded.since END,
	reason = excluded.reason, sqlstate = excluded.sqlstate, latency = excluded.latency,
	server_version = excluded.server_version, in_recovery = excluded.in_recovery, read_only = excluded.read_only,
	clock_offset = excluded.clock_offset, connections_left = excluded.connections_left,
	probed_at = excluded.probed_at, next_probe_at = excluded.next_probe_at, updated_at = excluded.updated_at
WHERE s.state <> excluded.state OR s.sqlstate IS DISTINCT FROM excluded.sqlstate
   OR s.updated_at < excluded.updated_at - interval '20 s'`

// removeStates removes states of nodes that are gone.
const removeStates = `DELETE FROM courier.node_state s
WHERE NOT EXISTS (SELECT FROM courier.node n WHERE n.node_name = s.node_name)`

// write writes states down: those that have changed, and now and then all.
func (h *home) write(ctx context.Context) error {
	p := h.prober
	p.mu.Lock()
	now := p.now()
	all := now.Sub(h.written) >= writeEvery
	var records []record
	for _, n := range p.nodes {
		if n.status.State != Unknown && (all || !n.written) {
			n.written = true
			records = append(records, newRecord(n.status))
		}
	}
	p.mu.Unlock()
	if all {
		h.written = now
		if _, err := h.session.Query(ctx, removeStates); err != nil {
			return h.unwritten(err)
		}
	}
	if len(records) == 0 {
		return nil
	}
	text, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("write the states of nodes: %w", err)
	}
	_, err = h.session.Query(ctx, writeStates, string(text))
	return h.unwritten(err)
}

// unwritten passes over a statement that failed, in a source that is read-only
// for a while perhaps: probing is worth more than its record.
func (h *home) unwritten(err error) error {
	if err == nil || h.session.Closed() {
		return err
	}
	h.prober.log.Debug("the states of nodes could not be written down", "error", err.Error())
	return nil
}
