package main

import (
	"fmt"
	"net/url"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"
)

// database is one that a command reads from.
type database struct {
	name string // for people: what tells it from the others
	dsn  string
}

func databaseFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name:  "database",
		Usage: "`DSN` of a database to look at, a libpq connection string or URI; may be repeated",
	}
}

// databases are those that the command line names, with warnings of what is
// unsafe about that. It is the place where a configuration file joins in.
func databases(c *cli.Context) (_ []database, warnings []string, _ error) {
	if c.Args().Present() {
		return nil, nil, cli.Exit(fmt.Sprintf("%s takes no argument %q; databases are given with --database",
			c.Command.Name, c.Args().First()), exitUsage)
	}
	given := c.StringSlice("database")
	if len(given) == 0 {
		return nil, nil, cli.Exit(fmt.Sprintf("name at least one database: courier %s --database 'host=localhost dbname=shop user=postgres'",
			c.Command.Name), exitUsage)
	}
	list := make([]database, len(given))
	places := make([]string, len(given))
	times := make(map[string]int)
	for i, dsn := range given {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			// its own words may quote the string, and so a password
			return nil, nil, cli.Exit("--database: the connection string is not of the form 'host=… dbname=… user=…' or postgresql://user@host/dbname", exitUsage)
		}
		list[i] = database{name: config.Database, dsn: dsn}
		if hasPassword(dsn) {
			warnings = append(warnings, "--database: the command line, and so this password, is shown to every user of this host")
		}
		if list[i].name == "" {
			list[i].name = config.User // as libpq does
		}
		places[i] = fmt.Sprintf("%s:%d", config.Host, config.Port)
		times[list[i].name]++
	}
	for i := range list {
		if times[list[i].name] > 1 {
			list[i].name += "@" + places[i]
		}
	}
	return list, warnings, nil
}

var passwordKeyword = regexp.MustCompile(`(^|\s)password\s*=`)

// hasPassword reports whether a connection string holds a password itself.
func hasPassword(dsn string) bool {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		_, set := u.User.Password()
		return set || u.Query().Has("password")
	}
	return passwordKeyword.MatchString(dsn)
}
