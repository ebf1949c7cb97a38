// Package health keeps an eye on the nodes of one source database. The
// supervisor runs a Prober a database and shows what it says; shipping asks it
// whether a node is worth a try, and tells it what it met.
//
// States of a node, as people see them:
//
//	unknown    not probed yet.
//	up         a new connection was let in, and the last question answered.
//	degraded   the same, but something will hold up shipping or soon may; the
//	           reason says what. See Judge.
//	down       no connection can be made, or one that was just made gives no
//	           answer.
//
// Every node has a line, a dblink connection of the home session, kept open
// between probes. Connecting is kept away from it, because dblink_connect
// blocks its whole session. So a node without a line goes round like this:
//
//	waiting   to be tried: now, or when its pause is over
//	trying    a trial session connects and leaves again. Refused: down, and
//	          waiting with a longer pause.
//	ready     let in; the home session opens the line
//	open      asked every interval. An error or no answer within the deadline
//	          closes the line, and the node is waiting, to be tried at once. Its
//	          state changes only if that trial fails, or if the next line gives
//	          no answer from the start.
//
// Trials of nodes that are down and of those that are not have a session each,
// opened when there is one to be made. So a source has one probing session while
// all is well, three at most, and nodes that are down hold up nobody.
//
// A line is closed and tried anew also when the node's definition changes, when
// a shipper suspects the node, and every ten minutes: a password that is no
// longer right, or a setting made for new sessions, shows on new connections
// only.
//
// A probe is one question and one answer. What changes rarely and is dearer to
// ask, free connections and settings of new sessions, is asked on every sixth.
//
// A crash loses nothing: all is found anew. courier.node_state is for people;
// nothing here reads it.
package health
