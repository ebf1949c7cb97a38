// Package supervise keeps the subscriptions of databases moving.
//
// A database has a control session, a bell session and, for each enabled
// subscription, a loop with sessions of its own. The control session finds out
// ten times a second whether the configuration has changed. It holds the leases:
// an advisory lock for each subscription, which the server releases when the
// session ends. A lease says who ships; what keeps two shippers from applying a
// batch twice is the progress on the target, not the lease.
//
// A loop with sessions waits for changes in one of them: the server wakes it when
// something is queued. For loops without any the bell's session waits. It is not
// among Config.Connections. When it fails, and once a second in any case, the
// control session looks into the queue instead.
//
// States of a database:
//
//	connecting    no control session yet
//	ready         it is worked for
//	down          it can't be reached; tried again with growing pauses
//	missing       it can be reached, but has no extension pg_courier
//	incompatible  the extension's version is another than this program's
//
// States of a subscription, as in courier.subscription_status, and two more:
//
//	standby    another process holds the lease; asked for twice a second. A
//	           background worker that holds it learns of the wish, and gives it
//	           up behind the batch under way
//	waiting    the lease is held, and no session is free (Config.Connections)
//	streaming  changes are shipped as they come. Half a minute after the last,
//	           or when another loop waits for a connection and there is nothing
//	           to ship, the loop gives its sessions back and rests until the bell
//	           rings.
//	retrying   an error that passes by itself, or a node that is down: tried
//	           again with growing pauses, or when the node is up
//	stopped, needs_resync
//	           a person must act; tried again with growing pauses all the same,
//	           and at once when the configuration changes
//
// Loops share nothing but the control session, the bell and the number of
// connections, so a dead node holds up only its own. When the control session
// is lost, so are the leases, and all loops of the database end until it is back.
//
// Run drains when its context is over: batches in flight are finished and noted,
// within Config.DrainTimeout. What is abandoned then is neither lost nor
// repeated: the target's progress says whether it was applied.
package supervise
