// Package dblink sends SQL to a node over a dblink connection that the local
// database holds. It knows how to open a connection on which text means the
// same on both sides, and what an error says about the work that was under way.
//
// A Link is used by one goroutine and has at most one string of statements in
// flight: Send, other work on the session, Wait.
package dblink
