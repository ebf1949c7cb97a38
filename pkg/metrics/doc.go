// Package metrics shows a running sidecar to Prometheus and to whoever asks
// whether it is alive. It is imported by the sidecar only.
//
// What is shown has three sources:
//
//	Observer   counts what the loops tell it, from the start of the process
//	States     the supervisor's view: states of databases, subscriptions, nodes
//	source     one a database, with a session of its own, which asks for what
//	           only the database knows: backlog, dead letters, the queue's size
//
// A source works only when asked: a scrape starts a collection in every source
// whose last one began 5 s ago or longer, waits a second at most, and serves what
// there is. A session that nobody has needed for five minutes is closed.
//
// A database that could not be asked has no values: those of an earlier
// collection are not repeated, and courier_database_up is 0. Counters survive
// that. Series of subscriptions and nodes that are gone vanish.
//
// Labels are names from the configuration. Texts of errors, keys and connection
// strings never get here; /readyz shows why a database is not ready, in the words
// of its DatabaseState.
package metrics
