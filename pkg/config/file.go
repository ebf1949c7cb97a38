package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// file is a configuration file that is TOML; its keys are not looked at yet.
type file struct {
	path  string
	mode  os.FileMode
	keys  map[string]any
	lines positions
}

// openFile reads and parses; where is what named the file.
func openFile(path, where string) (*file, error) {
	data, mode, err := readFile(path)
	if err != nil {
		return nil, errorAt(where, "read %s: %s", path, reason(err))
	}
	f := &file{path: path, mode: mode}
	if err := toml.Unmarshal(data, &f.keys); err != nil {
		return nil, syntaxError(path, err)
	}
	f.lines = findPositions(data)
	return f, nil
}

func readFile(path string) ([]byte, os.FileMode, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	return data, info.Mode(), nil
}

// syntaxError is for what is not TOML, and for keys that are there twice. The
// library's words may quote a character of the file, not more.
func syntaxError(path string, err error) error {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return errorAt(path, "%s", strings.TrimPrefix(err.Error(), "toml: "))
	}
	line, _ := decode.Position()
	where := fmt.Sprintf("%s:%d", path, line)
	if key := strings.Join(decode.Key(), "."); key != "" {
		where += ": " + key
	}
	return errorAt(where, "%s", strings.TrimPrefix(decode.Error(), "toml: "))
}

// where is file, line and key.
func (f *file) where(path string) string {
	key := path[strings.LastIndex(path, ".")+1:]
	if table, _, ok := strings.Cut(key, "["); ok {
		key = "[[" + table + "]]"
	}
	if line := f.lines.line(path); line > 0 {
		return fmt.Sprintf("%s:%d: %s", f.path, line, key)
	}
	return f.path + ": " + key
}

// inOrder sorts keys as they stand in the file, so that it is the first mistake
// that is reported.
func (f *file) inOrder(prefix string, table map[string]any) []string {
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := f.lines.line(prefix+a) - f.lines.line(prefix+b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

// apply takes the file's settings over into c.
func (f *file) apply(c *Config) error {
	for _, key := range f.inOrder("", f.keys) {
		if key == databaseSetting {
			if err := f.databases(c, f.keys[key]); err != nil {
				return err
			}
			continue
		}
		s := find(key)
		if s == nil {
			return errorAt(f.where(key), "there is no such setting")
		}
		text, err := scalar(f.keys[key], s.integer)
		if err == nil {
			err = s.set(c, text)
		}
		if err != nil {
			return errorAt(f.where(key), "%s", err)
		}
		c.given[key] = f.where(key)
	}
	return nil
}

// scalar is the text of a value, if it is of the right type.
func scalar(value any, integer bool) (string, error) {
	switch v := value.(type) {
	case string:
		if !integer {
			return v, nil
		}
	case int64:
		if integer {
			return strconv.FormatInt(v, 10), nil
		}
	}
	if integer {
		return "", problem("a whole number without quotes is expected here, not %s", typeName(value))
	}
	return "", problem("a text in quotes is expected here, not %s", typeName(value))
}

// typeName is TOML's word for the type of a value.
func typeName(value any) string {
	switch value.(type) {
	case string:
		return "a text in quotes"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// databases reads the [[database]] tables.
func (f *file) databases(c *Config, value any) error {
	tables, ok := value.([]any)
	if !ok {
		return errorAt(f.where(databaseSetting), "a table for each database is expected here, headed [[database]], not %s", typeName(value))
	}
	for i, entry := range tables {
		path := fmt.Sprintf("%s[%d]", databaseSetting, i)
		table, ok := entry.(map[string]any)
		if !ok {
			return errorAt(f.where(databaseSetting), "a table for each database is expected here, headed [[database]], not %s", typeName(entry))
		}
		d, err := f.database(c, path, table)
		if err != nil {
			return err
		}
		c.Databases = append(c.Databases, d)
	}
	c.given[databaseSetting] = f.path
	return nil
}

// database reads one [[database]] table.
func (f *file) database(c *Config, path string, table map[string]any) (Database, error) {
	values := make(map[string]string)
	for _, key := range f.inOrder(path+".", table) {
		where := f.where(path + "." + key)
		if !slices.Contains([]string{"name", "dsn", "dsn_file", "passfile"}, key) {
			return Database{}, errorAt(where, "there is no such setting of a database; there are name, dsn, dsn_file, passfile")
		}
		text, err := scalar(table[key], false)
		if err != nil {
			return Database{}, errorAt(where, "%s", err)
		}
		if text == "" {
			return Database{}, errorAt(where, "it is empty")
		}
		values[key] = text
	}

	d := Database{Name: values["name"], named: values["name"] != "", where: f.where(path)}
	_, inline := values["dsn"]
	_, apart := values["dsn_file"]
	switch {
	case inline == apart:
		return d, errorAt(d.where, "a database has either dsn or dsn_file")
	case inline:
		d.DSN, d.where = values["dsn"], f.where(path+".dsn")
		if hasPassword(d.DSN) {
			c.warnOpen(f.path, f.mode)
		}
	default:
		d.where = f.where(path + ".dsn_file")
		name, text, mode, err := f.secret(values["dsn_file"], d.where)
		if err != nil {
			return d, err
		}
		if d.DSN = strings.TrimSpace(text); d.DSN == "" {
			return d, errorAt(d.where, "%s is empty", name)
		}
		if hasPassword(d.DSN) {
			c.warnOpen(name, mode)
		}
	}
	if values["passfile"] != "" {
		// pgx passes over one that it cannot read
		name, _, mode, err := f.secret(values["passfile"], f.where(path+".passfile"))
		if err != nil {
			return d, err
		}
		c.warnOpen(name, mode)
		d.DSN = withPassfile(d.DSN, name)
	}
	return d, d.check()
}

// secret reads a file that is named in this one, relative to its folder.
func (f *file) secret(name, where string) (path, text string, mode os.FileMode, err error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(f.path), name)
	}
	data, mode, err := readFile(name)
	if err != nil {
		return name, "", 0, errorAt(where, "read %s: %s", name, reason(err))
	}
	return name, string(data), mode, nil
}

// warnOpen warns, once, of a file with a password that everybody may read.
func (c *Config) warnOpen(path string, mode os.FileMode) {
	if mode.Perm()&0o004 == 0 {
		return
	}
	line := fmt.Sprintf("%s holds a password and every user of this machine may read it; chmod o= %s", path, path)
	if !slices.Contains(c.Warnings, line) {
		c.warn(line)
	}
}
