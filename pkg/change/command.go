package change

import "slices"

// Command is DDL that was run on the source and is to be run on the target, at
// the same place among the rows.
type Command struct {
	Role     string    // who ran it
	Sets     []string  // replication sets that it belongs to
	Settings []Setting // what its text and its values depend on, search_path among them
	Text     string    // one or more statements, in the database's encoding
}

// Setting is a server setting with its value.
type Setting struct{ Name, Value string }

// Setting returns the value of a setting, or "".
func (c *Command) Setting(name string) string {
	for _, s := range c.Settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// Concerns reports whether one of the sets is among the command's.
func (c *Command) Concerns(sets []string) bool {
	return slices.ContainsFunc(sets, func(set string) bool { return slices.Contains(c.Sets, set) })
}
