//go:build !courier_fault

package main

func beforeShip(string) {}
