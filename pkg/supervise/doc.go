// Package supervise keeps the subscriptions of databases moving.
//
// A database has one goroutine that looks every half second which subscriptions
// are enabled, and one goroutine a subscription with a session of its own. A
// subscription's loop is: connect, ship what there is, wait; after an error,
// write down what happened, wait longer, connect again. Loops share nothing, so
// a dead node holds up only its own.
//
// Run returns when its context is over and every goroutine has ended. Work in
// flight then is abandoned; the target's progress says whether it was applied.
package supervise
