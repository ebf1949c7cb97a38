package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Database is a source database to work for.
type Database struct {
	Name string // in logs and metrics; unique
	DSN  string // a libpq connection string or URI; may hold a password

	where string // where it was given, for errors
	named bool   // Name was chosen by a person
}

// uriPrefixes are those of the URI form of a connection string.
var uriPrefixes = []string{"postgresql://", "postgres://"}

func isURI(dsn string) bool {
	return slices.ContainsFunc(uriPrefixes, func(prefix string) bool { return strings.HasPrefix(dsn, prefix) })
}

// check parses the connection string and gives the database its plain name, if
// it has none. The string is not part of any error.
func (d *Database) check() error {
	parsed, err := pgx.ParseConfig(d.DSN)
	if err != nil {
		return errorAt(d.where, "%s", parseProblem(err))
	}
	// pgx takes a keyword that it does not know for a server setting, and every
	// connection would be refused.
	for keyword := range parsed.RuntimeParams {
		if !slices.Contains(runtimeKeywords, keyword) {
			if !plainWord.MatchString(keyword) { // it may be a piece of a password
				return errorAt(d.where, "%s", notOfTheForm)
			}
			return errorAt(d.where, "the connection string has the unknown keyword %q; "+
				"a setting of the server is given as options='-c name=value'", keyword)
		}
	}
	if d.Name == "" {
		name := parsed.Database
		if name == "" {
			name = parsed.User // as the server does
		}
		d.Name = fmt.Sprintf("%s@%s:%d", name, parsed.Host, parsed.Port)
	}
	return nil
}

// runtimeKeywords are what of libpq's keywords, and of the PG… variables, pgx
// hands to the server in the startup packet.
var runtimeKeywords = []string{"application_name", "options", "client_encoding", "timezone"}

var plainWord = regexp.MustCompile(`^[a-z_]{1,30}$`)

const notOfTheForm = "the connection string is not of the form 'host=… dbname=… user=…' or " +
	"postgresql://user@host/dbname, or a value in it does not exist (port, sslmode, service, …)"

// parseProblem says what is known not to be secret: pgx's own words may quote
// the string, and so a password.
func parseProblem(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Sprintf("the connection string names a file that cannot be read: %s: %s", path.Path, path.Err)
	}
	return notOfTheForm
}

// passwordKeyword finds a password given in keyword form or as a URI's parameter.
var passwordKeyword = regexp.MustCompile(`(?i)(^|[\s?&'])(ssl)?password\s*=`)

// hasPassword is for warnings: it looks at the string itself, not at what pgx
// finds in a password file.
func hasPassword(dsn string) bool {
	if isURI(dsn) {
		if u, err := url.Parse(dsn); err == nil {
			if _, ok := u.User.Password(); ok {
				return true
			}
		}
	}
	return passwordKeyword.MatchString(dsn)
}

// withPassfile adds the name of a password file to a connection string.
func withPassfile(dsn, path string) string {
	if !isURI(dsn) {
		return dsn + " passfile='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(path) + "'"
	}
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	// a plus is a plus there, as in libpq
	return dsn + separator + "passfile=" + strings.ReplaceAll(url.QueryEscape(path), "+", "%20")
}

// nameDatabases makes the names unique. Those chosen by a person have to be so
// already; of the others, the second shop@db1:5432 becomes shop@db1:5432#2.
func (c *Config) nameDatabases() error {
	taken := make(map[string]bool)
	for _, d := range c.Databases {
		if !d.named {
			continue
		}
		if taken[d.Name] {
			return errorAt(d.where, "a second database is named %q", d.Name)
		}
		taken[d.Name] = true
	}
	for i := range c.Databases {
		d := &c.Databases[i]
		if d.named {
			continue
		}
		plain := d.Name
		for n := 2; taken[d.Name]; n++ {
			d.Name = fmt.Sprintf("%s#%d", plain, n)
		}
		taken[d.Name] = true
	}
	return nil
}
