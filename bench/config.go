package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// config is what the flags say.
type config struct {
	only    []string
	systems []*system // chosen, and later: there
	named   bool      // the systems were chosen by name
	ways    []*capture
	rounds  int
	rows    int
	json    string
	from    string
	docs    string
	courier string

	packages bool

	captureRounds int
	captureRows   int
	tpcbScale     int
	tpcbSeconds   int

	latencyRounds  int
	latencySeconds int
	latencyRates   []int

	copyRows         int
	sustainedSeconds int
	backlogSizes     []int
	fanOutTargets    []int
	fanInSources     []int

	commitRounds   int
	commitSeconds  int
	commitSessions int
}

func parseFlags() (*config, error) {
	c := &config{}
	courier := os.Getenv("COURIER_BIN")
	if courier == "" {
		courier = "bin/courier"
	}
	only := flag.String("only", "", "these `scenarios`, comma-separated, or all: "+strings.Join(scenarioNames(), ", ")+" (default "+strings.Join(standardScenarios(), ", ")+")")
	chosen := flag.String("systems", "", "these `systems` only, comma-separated: "+strings.Join(systemNames(), ", "))
	ways := flag.String("captures", "", "these `ways` to capture only, comma-separated: "+strings.Join(captureNames(), ", "))
	flag.IntVar(&c.rounds, "rounds", 3, "rounds of every scenario that has no flag of its own for it")
	flag.IntVar(&c.rows, "rows", 1_000_000, "rows of a backlog")
	flag.IntVar(&c.captureRounds, "capture-rounds", 5, "rounds of capture and tpcb")
	flag.IntVar(&c.captureRows, "capture-rows", 200_000, "rows of a captured statement")
	flag.IntVar(&c.tpcbScale, "tpcb-scale", 10, "pgbench's scale factor for tpcb")
	flag.IntVar(&c.tpcbSeconds, "tpcb-seconds", 5, "length of a measurement of tpcb")
	flag.IntVar(&c.latencyRounds, "latency-rounds", 1, "rounds of latency and link-latency")
	flag.IntVar(&c.latencySeconds, "latency-seconds", 20, "length of a measurement of latency")
	rates := flag.String("latency-rates", "10,200,1000", "transactions a second, comma-separated")
	flag.IntVar(&c.copyRows, "copy-rows", 5_000_000, "rows of the table of copy; a tenth of 2 kB")
	flag.IntVar(&c.sustainedSeconds, "sustained-seconds", 8, "length of a step of sustained")
	backlogs := flag.String("backlog-sizes", "10000,100000,1000000,10000000", "changes of the backlogs of backlog")
	fanOut := flag.String("fan-out-targets", "1,2,4,8", "numbers of targets of fan-out")
	fanIn := flag.String("fan-in-sources", "1,10,100", "numbers of source databases of fan-in")
	flag.IntVar(&c.commitRounds, "commit-rounds", 15, "rounds of commit")
	flag.IntVar(&c.commitSeconds, "commit-seconds", 1, "length of a measurement of commit")
	flag.IntVar(&c.commitSessions, "commit-sessions", 64, "sessions that commit")
	flag.StringVar(&c.json, "json", "", "write all measurements to `FILE` too, after every scenario")
	flag.StringVar(&c.from, "from-json", "", "measure nothing; report what `FILES` say, comma-separated: of runs that measured different scenarios")
	flag.StringVar(&c.docs, "docs", "", "write benchmarks.md and its charts into `DIRECTORY`")
	flag.BoolVar(&c.packages, "packages", false, "measure nothing; print the Debian packages of the peers that are not installed")
	flag.StringVar(&c.courier, "courier", courier, "the sidecar's `program`")
	flag.Parse()

	if flag.NArg() > 0 {
		return nil, fmt.Errorf("there is no argument %q", flag.Arg(0))
	}
	if min(c.rounds, c.captureRounds, c.captureRows, c.latencyRounds, c.latencySeconds, c.commitRounds, c.commitSeconds,
		c.commitSessions, c.tpcbScale, c.tpcbSeconds, c.sustainedSeconds) < 1 {
		return nil, errors.New("rounds, rows, seconds and sessions start at 1")
	}
	if c.rows < batchRows || c.copyRows < batchRows {
		return nil, fmt.Errorf("-rows, -copy-rows: a backlog and a table have at least %d rows", batchRows)
	}
	var err error
	if c.latencyRates, err = numbers("-latency-rates", *rates); err != nil {
		return nil, err
	}
	for name, list := range map[string]struct {
		text *string
		into *[]int
	}{"-backlog-sizes": {backlogs, &c.backlogSizes}, "-fan-out-targets": {fanOut, &c.fanOutTargets}, "-fan-in-sources": {fanIn, &c.fanInSources}} {
		if *list.into, err = numbers(name, *list.text); err != nil {
			return nil, err
		}
	}
	if err := c.choose(*only, *chosen); err != nil {
		return nil, err
	}
	if err := c.chooseCaptures(*ways); err != nil {
		return nil, err
	}
	return c, nil
}

// choose takes names of scenarios and systems.
func (c *config) choose(only, chosen string) error {
	switch only {
	case "":
		c.only = standardScenarios()
	case "all":
		c.only = scenarioNames()
	default:
		c.only = strings.Split(only, ",")
	}
	for _, name := range c.only {
		if !slices.Contains(scenarioNames(), name) {
			return fmt.Errorf("-only: %q is none of %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	c.systems = systems
	if chosen == "" {
		return nil
	}
	c.named = true
	names := strings.Split(chosen, ",")
	for _, name := range names {
		if !slices.Contains(systemNames(), name) {
			return fmt.Errorf("-systems: %q is none of %s", name, strings.Join(systemNames(), ", "))
		}
	}
	c.systems = slices.DeleteFunc(slices.Clone(systems), func(s *system) bool { return !slices.Contains(names, s.name) })
	return nil
}

// chooseCaptures takes names of ways to capture. None of them is compared with
// anything but an uncaptured table, so that is always one.
func (c *config) chooseCaptures(list string) error {
	c.ways = captures
	if list == "" {
		return nil
	}
	names := append(strings.Split(list, ","), uncaptured)
	for _, name := range names {
		if !slices.Contains(captureNames(), name) {
			return fmt.Errorf("-captures: %q is none of %s", name, strings.Join(captureNames(), ", "))
		}
	}
	c.ways = slices.DeleteFunc(slices.Clone(captures), func(way *capture) bool { return !slices.Contains(names, way.name) })
	return nil
}

// numbers reads a list of positive whole numbers.
func numbers(flag, list string) ([]int, error) {
	var result []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s: %q is no whole number above 0", flag, text)
		}
		result = append(result, n)
	}
	return result, nil
}
