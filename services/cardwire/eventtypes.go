package main

import (
	"fmt"

	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// eventTypesCommand is about files of event types.
type eventTypesCommand struct {
	Check checkTypesCommand `cmd:"" help:"Compare two files of event types: what in the new one breaks publishers and receivers of the old one?"`
}

type checkTypesCommand struct {
	Old string `arg:"" help:"The file as it is used now."`
	New string `arg:"" help:"The file that is to replace it."`
}

// Run prints a line on stdout for each change that breaks somebody, and fails if
// there is one. A file that can't be loaded is a wrong setting, exit code 2.
func (c checkTypesCommand) Run() error {
	older, err := eventtypes.Load(c.Old)
	if err != nil {
		return unusable{err}
	}
	newer, err := eventtypes.Load(c.New)
	if err != nil {
		return unusable{err}
	}
	lines := eventtypes.Breaking(older, newer)
	for _, line := range lines {
		fmt.Println(line)
	}
	if len(lines) > 0 {
		return fmt.Errorf("%s breaks what relies on %s, in %d places", c.New, c.Old, len(lines))
	}
	note("%s is compatible with %s.", c.New, c.Old)
	return nil
}

// An unusable error is about what the command was given.
type unusable struct{ error }

// ExitCode is kong's for wrong settings.
func (unusable) ExitCode() int { return 80 }
