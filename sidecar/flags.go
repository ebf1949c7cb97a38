package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pg-courier/pg_courier/pkg/config"
)

// databaseFlags are those of a command that works on databases: which ones, and
// the file that may name them.
func databaseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "database",
			Usage: "work for the database of `DSN`, a libpq connection string or URI; may be repeated; in the environment one a line" +
				inEnv("database"),
		},
		&cli.StringFlag{
			Name:  "config",
			Usage: "read settings from `FILE`, TOML" + inEnv("config"),
		},
	}
}

// settingFlags are those of the settings that have a single value.
func settingFlags() []cli.Flag {
	var flags []cli.Flag
	for _, s := range config.Settings() {
		flags = append(flags, &cli.StringFlag{
			Name:        s.FlagName(),
			Usage:       s.Usage + inEnv(s.Name),
			DefaultText: s.Default,
		})
	}
	return flags
}

func inEnv(setting string) string { return " [$" + config.EnvName(setting) + "]" }

// readConfig reads the settings of a command that has databaseFlags, and perhaps
// settingFlags. cli knows nothing of the environment, so that an error can tell
// a variable from a flag.
func readConfig(c *cli.Context) (*config.Config, error) {
	sources := config.Sources{Flags: make(map[string][]string), LookupEnv: os.LookupEnv}
	if c.IsSet("database") {
		sources.Flags["database"] = c.StringSlice("database")
	}
	if c.IsSet("config") {
		sources.Flags["config"] = []string{c.String("config")}
	}
	for _, s := range config.Settings() {
		if c.IsSet(s.FlagName()) {
			sources.Flags[s.Name] = []string{c.String(s.FlagName())}
		}
	}
	settings, err := config.Read(sources)
	if err != nil {
		return nil, err
	}
	if len(settings.Databases) == 0 {
		return nil, cli.Exit("name at least one database: courier "+c.Command.Name+
			" --database 'host=localhost dbname=shop user=postgres', or a [[database]] in the file of --config", exitUsage)
	}
	return settings, nil
}
