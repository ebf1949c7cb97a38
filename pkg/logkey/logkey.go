// Package logkey has the keys of log attributes, so that one thing has one name
// in every line. Anything that logs may import it.
//
// There is no key for a connection string, a password or a row, and none is to
// be logged.
package logkey

const (
	Database     = "database" // its name in the configuration
	Subscription = "subscription"
	Node         = "node"
	Table        = "table"

	State    = "state"
	Error    = "error"
	SQLState = "sqlstate"
	Hint     = "hint"
	RetryIn  = "retry_in" // a duration as text

	Version   = "version"
	Databases = "databases" // how many
	Listen    = "listen"    // host:port
	Setting   = "setting"
	Where     = "where" // the flag, the variable, or file, line and key
	Signal    = "signal"
	Level     = "log_level"
	Within    = "within" // a duration as text, the bound of what is going on
)
