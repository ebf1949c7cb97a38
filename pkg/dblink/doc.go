// Package dblink sends SQL to a node over a dblink connection that the local
// database holds. It knows how to open a connection on which text means the
// same on both sides, and what an error says about the work that was under way.
//
// States of a link: open, in flight (from Send to Wait), closed. A link that goes
// silent while in flight is looked into over a second connection (see await) and
// given up, that is, closed with an error of class Unknown: what was in flight may
// have been committed, be committed yet, or never. The session that it leaves on
// the node stands in nobody's way once the next link has claimed the subscription.
//
// A Link is used by one goroutine and has at most one string of statements in
// flight: Send, other work on the session, Wait.
package dblink
