//go:build !linux

package session

import "time"

func setUserTimeout(int, time.Duration) {}
