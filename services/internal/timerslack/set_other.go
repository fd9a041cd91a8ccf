//go:build !linux

package timerslack

import "time"

// Set does nothing: this system knows no slack of timers.
func Set(time.Duration) error { return nil }
