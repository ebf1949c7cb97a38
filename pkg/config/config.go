package config

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Config is every setting of the sidecar, checked.
type Config struct {
	Databases      []Database
	Listen         string // host:port of the HTTP listener, empty for none
	LogLevel       slog.Level
	LogFormat      string        // FormatText or FormatJSON
	MaxConnections int           // most to one source database, 0 for automatic
	DrainTimeout   time.Duration // for batches in flight when told to stop
	ProbeInterval  time.Duration // between two probes of a node
	MemoryLimit    int64         // bytes at which Go collects harder, 0 for none

	// Warnings are findings that don't keep the sidecar from working, one line each.
	Warnings []string

	given map[string]string // where a setting was given, by name
}

// Forms of the log.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Sources is where settings are given, apart from the file, which they name.
type Sources struct {
	// Flags has the values of the flags given on the command line, by name of
	// the setting. All but "database" have one value.
	Flags map[string][]string
	// LookupEnv is os.LookupEnv, or nil to leave the environment out.
	LookupEnv func(string) (string, bool)
}

// Default is what holds where nothing is given.
func Default() *Config {
	c := &Config{given: make(map[string]string)}
	for i := range settings {
		if err := settings[i].set(c, settings[i].Default); err != nil {
			panic("default of " + settings[i].Name + ": " + err.Error())
		}
	}
	return c
}

// Load reads a file over the defaults.
func Load(path string) (*Config, error) {
	return Read(Sources{Flags: map[string][]string{fileSetting: {path}}})
}

// Read reads all sources. Errors are of type *Error.
func Read(sources Sources) (*Config, error) {
	c := Default()
	if err := c.readFile(sources); err != nil {
		return nil, err
	}
	for i := range settings {
		s := &settings[i]
		value, where, ok := sources.lookup(s.Name)
		if !ok {
			continue
		}
		if err := s.set(c, value[len(value)-1]); err != nil {
			return nil, errorAt(where, "%s", err)
		}
		c.given[s.Name] = where
	}
	if values, where, ok := sources.lookup(databaseSetting); ok {
		if err := c.setDatabases(values, where); err != nil {
			return nil, err
		}
	}
	if err := c.nameDatabases(); err != nil {
		return nil, err
	}
	return c, nil
}

// readFile reads the file that the sources name, if they do.
func (c *Config) readFile(sources Sources) error {
	path, where, ok := sources.lookup(fileSetting)
	if !ok {
		return nil
	}
	f, err := openFile(path[0], where)
	if err != nil {
		return err
	}
	return f.apply(c)
}

// setDatabases replaces the databases by those of flags or the environment.
func (c *Config) setDatabases(dsns []string, where string) error {
	c.Databases = nil
	c.Warnings = nil // those of the file were about databases that are not used
	for _, dsn := range dsns {
		d := Database{DSN: dsn, where: where}
		if err := d.check(); err != nil {
			return err
		}
		if strings.HasPrefix(where, "--") && hasPassword(dsn) {
			c.warn(where + ": the command line, and so this password, is shown to every user of this machine; " +
				"use --config with a file that only courier may read")
		}
		c.Databases = append(c.Databases, d)
	}
	c.given[databaseSetting] = where
	return nil
}

// lookup finds a setting in the flags or the environment. A variable that is
// empty counts as absent: there is no other way to take one back in a unit file.
func (s Sources) lookup(name string) (values []string, where string, ok bool) {
	if values := s.Flags[name]; len(values) > 0 {
		return values, "--" + flagName(name), true
	}
	if s.LookupEnv == nil {
		return nil, "", false
	}
	value, _ := s.LookupEnv(EnvName(name))
	if name == databaseSetting {
		values = nonEmptyLines(value)
	} else if value != "" {
		values = []string{value}
	}
	return values, EnvName(name), len(values) > 0
}

// Given says where a setting was given; false means that it has its default.
func (c *Config) Given(name string) (where string, ok bool) {
	where, ok = c.given[name]
	return where, ok
}

// Differences names the settings in which other differs, sorted.
func (c *Config) Differences(other *Config) []string {
	var names []string
	for i := range settings {
		if settings[i].get(c) != settings[i].get(other) {
			names = append(names, settings[i].Name)
		}
	}
	same := slices.EqualFunc(c.Databases, other.Databases, func(a, b Database) bool {
		return a.Name == b.Name && a.DSN == b.DSN
	})
	if !same {
		names = append(names, databaseSetting)
	}
	slices.Sort(names)
	return names
}

func (c *Config) warn(line string) { c.Warnings = append(c.Warnings, line) }
