package config

import (
	"strconv"
	"strings"
	"time"
)

// Names of the settings that are not a single value of the file.
const (
	databaseSetting = "database"
	fileSetting     = "config"
)

// Setting describes one setting that has a single value.
type Setting struct {
	Name    string // as in the file
	Usage   string // what stands for the value is in backquotes
	Default string

	integer bool // written without quotes in the file
	set     func(c *Config, text string) error
	get     func(c *Config) any
}

// settings is all of them, in the order in which help and manual show them.
var settings = []Setting{
	{
		Name: "listen", Default: DefaultListen,
		Usage: "serve metrics and health over HTTP at `HOST:PORT`; none for nowhere",
		set:   func(c *Config, text string) error { return parseInto(&c.Listen, text, parseListen) },
		get:   func(c *Config) any { return c.Listen },
	},
	{
		Name: "log_level", Default: "info",
		Usage: "log messages from `LEVEL` on: debug, info, warn, error",
		set:   func(c *Config, text string) error { return parseInto(&c.LogLevel, text, parseLevel) },
		get:   func(c *Config) any { return c.LogLevel },
	},
	{
		Name: "log_format", Default: FormatText,
		Usage: "write the log to standard error as `FORMAT`: text or json",
		set:   func(c *Config, text string) error { return parseInto(&c.LogFormat, text, parseFormat) },
		get:   func(c *Config) any { return c.LogFormat },
	},
	{
		Name: "max_connections", Default: "0", integer: true,
		Usage: "open at most `N` connections to one source database; 0 for two a subscription, within two thirds of the server's max_connections",
		set:   func(c *Config, text string) error { return parseInto(&c.MaxConnections, text, parseConnections) },
		get:   func(c *Config) any { return c.MaxConnections },
	},
	{
		Name: "drain_timeout", Default: "4s",
		Usage: "when told to stop, give batches in flight `DURATION` to finish",
		set:   func(c *Config, text string) error { return parseInto(&c.DrainTimeout, text, parseDrain) },
		get:   func(c *Config) any { return c.DrainTimeout },
	},
	{
		Name: "probe_interval", Default: "5s",
		Usage: "probe each node every `DURATION`",
		set:   func(c *Config, text string) error { return parseInto(&c.ProbeInterval, text, parseProbe) },
		get:   func(c *Config) any { return c.ProbeInterval },
	},
	{
		Name: "memory_limit", Default: "none",
		Usage: "collect garbage harder beyond `SIZE` of memory, such as 512MB; none for no limit but GOMEMLIMIT",
		set:   func(c *Config, text string) error { return parseInto(&c.MemoryLimit, text, parseMemory) },
		get:   func(c *Config) any { return c.MemoryLimit },
	},
}

// Settings lists the settings that have a single value, but for the file's name.
func Settings() []Setting { return settings }

// FlagName is the setting as a flag, without its dashes.
func (s Setting) FlagName() string { return flagName(s.Name) }

// EnvName is the environment variable of a setting.
func EnvName(setting string) string { return "COURIER_" + strings.ToUpper(setting) }

func flagName(setting string) string { return strings.ReplaceAll(setting, "_", "-") }

// find is nil for a name that is no setting.
func find(name string) *Setting {
	for i := range settings {
		if settings[i].Name == name {
			return &settings[i]
		}
	}
	return nil
}

// parseInto leaves the target alone if the text is not good.
func parseInto[T any](target *T, text string, parse func(string) (T, error)) error {
	value, err := parse(text)
	if err != nil {
		return err
	}
	*target = value
	return nil
}

// Bounds: below, a daemon would only be busy with itself; above, a typing error.
const (
	leastConnections = 2
	mostConnections  = 100_000
	shortestDrain    = 100 * time.Millisecond
	longestDrain     = time.Hour
	shortestProbe    = 100 * time.Millisecond
	longestProbe     = time.Hour
	leastMemory      = 64 << 20
)

func parseConnections(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n != 0 && (n < leastConnections || n > mostConnections) {
		return 0, problem("%q is neither 0 nor a whole number from %d to %d", text, leastConnections, mostConnections)
	}
	return n, nil
}

func parseDrain(text string) (time.Duration, error) {
	return parseDuration(text, shortestDrain, longestDrain)
}

func parseProbe(text string) (time.Duration, error) {
	return parseDuration(text, shortestProbe, longestProbe)
}
