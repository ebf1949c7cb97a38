//go:build courier_fault

package main

// beforeShip panics for subscriptions of a certain name. Only a test builds the
// engine with the tag courier_fault, to see that a panic stays an SQL error.
func beforeShip(subscription string) {
	if subscription == "panic" {
		panic("a fault was asked for")
	}
}
