//go:build failpoints

// Package failpoint names the places where the crash lab kills a service, and
// what it sabotages to see whether its checker would notice. Only builds with
// the tag failpoints have any of it: in all others these functions are empty
// and compiled away.
package failpoint

import (
	"os"
	"syscall"
	"time"
)

// soon is how long after its place Soon kills: a request is then on the wire, and
// the lab's receiver has not answered it.
const soon = 100 * time.Millisecond

// Hit is a place where the process is killed if the file FAILPOINT names it. The
// file is removed before that: it kills once.
func Hit(name string) {
	if named(name) {
		kill()
	}
}

// Soon is a place a little after which the process is killed if the file
// FAILPOINT names it.
func Soon(name string) {
	if named(name) {
		time.AfterFunc(soon, kill)
	}
}

func named(name string) bool {
	text, err := os.ReadFile(os.Getenv("FAILPOINT"))
	return err == nil && string(text) == name
}

func kill() {
	if os.Remove(os.Getenv("FAILPOINT")) != nil {
		return // somebody else is at it
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it comes at once
}

// Sabotaged says whether SABOTAGE names a thing that is to be done wrong.
func Sabotaged(name string) bool { return os.Getenv("SABOTAGE") == name }
