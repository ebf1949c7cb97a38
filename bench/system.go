package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// shipper is a system at work on one pair of servers. It is made with
// shipping stopped and, unless rows are to be copied, the tables empty on both
// sides.
type shipper interface {
	// start lets shipping begin; the clock runs.
	start(ctx context.Context) error
	// fault says why it does not ship any more by itself; nil while it does.
	fault(ctx context.Context) error
	// processes are those outside of the two servers, while it runs, without
	// their children.
	processes() []int
	// stop ends shipping, to be started again.
	stop(ctx context.Context) error
	// close ends it for good, also after an error.
	close() error
}

// resident is the part of a shipper that lives in the servers.
type resident struct{}

func (resident) fault(context.Context) error { return nil }
func (resident) processes() []int            { return nil }
func (resident) close() error                { return nil }

// system is a way to ship.
type system struct {
	name  string
	title string
	// needs is what has to be installed.
	needs requirement
	// preload goes into shared_preload_libraries of both servers.
	preload  string
	settings map[string]string
	// share is the part of the rows that it ships in catch-up; a slow system
	// would take hours for all.
	share float64
	// synchronous: rows are shipped inside the transaction that changes them, so
	// that the clock starts before they are changed.
	synchronous bool
	// lacks names the scenarios it is not part of.
	lacks []string
	setup func(ctx context.Context, p *pair, c *config) (shipper, error)
}

const (
	reference = "built-in" // what ratios are relative to
	ours      = "worker"   // what is compared with every peer
)

// options are those of the system's servers, with further settings.
func (s *system) options(further map[string]string) ([]pgtest.Option, error) {
	set := make(map[string]string)
	maps.Copy(set, s.settings)
	maps.Copy(set, further)
	if _, wanted := set[pluginList]; wanted {
		known, err := serverKnows(pluginList)
		if err != nil {
			return nil, err
		}
		if !known {
			delete(set, pluginList)
		}
	}
	options := []pgtest.Option{pgtest.Settings(set)}
	if s.preload != "" {
		options = append(options, pgtest.Setting("shared_preload_libraries", s.preload))
	}
	return options, nil
}

// serverKnows says whether the server has a setting.
func serverKnows(setting string) (bool, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return false, err
	}
	out, err := exec.Command(inst.Program("postgres"), "--describe-config").Output()
	if err != nil {
		return false, fmt.Errorf("ask postgres for its settings: %w", err)
	}
	return strings.Contains("\n"+string(out), "\n"+setting+"\t"), nil
}

// systems are the peers.
var systems = []*system{
	{name: reference, title: "PostgreSQL's logical replication", share: 1, setup: newBuiltin,
		settings: map[string]string{"wal_retrieve_retry_interval": "100ms"}}, // else a worker starts 5 s after the last
	{name: "worker", title: "pg_courier, trigger capture, background worker", preload: "pg_courier", share: 1, setup: newWorker},
	{name: "sidecar", title: "pg_courier, trigger capture, `courier run`", preload: "pg_courier", share: 1, setup: newSidecar},
	{name: "pglogical", title: "pglogical 2", needs: pglogicalNeeds, preload: "pglogical", settings: pglogicalSettings, share: 1, setup: newPglogical},
	{name: "slony", title: "Slony-I 2.2", needs: slonyNeeds, share: 0.3, setup: newSlony},
	{name: "londiste", title: "Londiste 3 on PgQ", needs: londisteNeeds, share: 0.06, setup: newLondiste},
	{name: "bucardo", title: "Bucardo 5", needs: bucardoNeeds, share: 0.06, setup: newBucardo},
	{name: "jsonb-queue", title: "a plpgsql trigger that queues jsonb, and a loop that sends it over dblink, made at home", share: 0.06,
		lacks: []string{"copy"}, setup: newJSONBQueue},
	{name: "dblink-row", title: "a trigger that sends each row over dblink, as in articles", share: 0.006,
		synchronous: true, lacks: []string{"copy", "latency", "link", "link-latency", "sustained"}, setup: newRowByRow},
}

func systemNames() []string {
	var names []string
	for _, s := range systems {
		names = append(names, s.name)
	}
	return names
}

func findSystem(name string) *system {
	return systems[slices.Index(systemNames(), name)]
}

// partOf says whether the system is measured in a scenario.
func (s *system) partOf(scenario string) bool { return !slices.Contains(s.lacks, scenario) }

func tableNames(tables []*table) []string {
	var names []string
	for _, t := range tables {
		names = append(names, t.name)
	}
	return names
}

// list puts the tables' names, each in the given quotes, between commas.
func list(tables []*table, quote string) string {
	return quote + strings.Join(tableNames(tables), quote+", "+quote) + quote
}
