//go:build !failpoints

// Package failpoint names the places where the crash lab kills a service, and
// what it sabotages to see whether its checker would notice. Only builds with
// the tag failpoints have any of it: in all others these functions are empty
// and compiled away.
package failpoint

// Hit is a place where the process is killed if the file FAILPOINT names it.
func Hit(string) {}

// Soon is a place a little after which the process is killed if the file FAILPOINT names it.
func Soon(string) {}

// Sabotaged says whether SABOTAGE names a thing that is to be done wrong.
func Sabotaged(string) bool { return false }
