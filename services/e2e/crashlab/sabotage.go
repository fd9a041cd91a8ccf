package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// sabotages are what the builds with the tag failpoints can do wrong, by the
// name that SABOTAGE takes, and the invariant that each must break: a seed that
// breaks others only has not caught it.
var sabotages = []struct{ name, about, breaks string }{
	{"claim skipped", "the deliverer POSTs what it gets a message for, without a claim", "I2"},
	{"no lease", "a claim's lease runs out at once", "I4"},
	{"settle lost", "a fiftieth of the results are not written", "I3"},
	{"outbox skipped", "views says that a view is in the outbox, and writes none", "I1"},
	{"no sweeper", "nobody looks for deliveries without a message, nor for leases that ran out", "I7"},
	{"ack before commit", "fan-out acks events when it has received them, and then tries once to store them", "I1"},
}

// sabotage runs each sabotaged build until a seed fails, and writes the table.
// The error says that one was not caught.
func (l *lab) sabotage(ctx context.Context) error {
	var missed []string
	table := "| sabotage | what is wrong | caught by seed | by | the first objection |\n|---|---|---|---|---|\n"
	for _, s := range sabotages {
		if l.cfg.Only != "" && l.cfg.Only != s.name {
			continue
		}
		caught, err := l.firstFailure(ctx, s.name, s.breaks)
		if err != nil {
			return err
		}
		row := fmt.Sprintf("| %s | %s | none of %d | | |\n", s.name, s.about, l.cfg.Seeds)
		if caught != nil {
			v := caught.Violations[slices.IndexFunc(caught.Violations, broken(s.breaks))]
			row = fmt.Sprintf("| %s | %s | %d of at most %d | %s | %s |\n", s.name, s.about, caught.Seed-l.cfg.Seed+1, l.cfg.Seeds, invariants(caught), v.Text)
		} else {
			missed = append(missed, s.name)
		}
		fmt.Print(row)
		table += row
	}
	if err := l.writeTable("Sabotages", table); err != nil {
		return err
	}
	if len(missed) > 0 {
		return fmt.Errorf("not caught: %s", strings.Join(missed, ", "))
	}
	return nil
}

// broken says whether a violation is of an invariant.
func broken(invariant string) func(check.Violation) bool {
	return func(v check.Violation) bool { return v.Invariant == invariant }
}

// firstFailure is the first seed that breaks an invariant with a sabotage; nil is
// none. It leaves no files, neither of that seed nor of those beside it.
func (l *lab) firstFailure(ctx context.Context, name, breaks string) (first *result, err error) {
	dir := l.dir
	l.dir = filepath.Join(dir, "sabotage")
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(l.dir))
		l.dir = dir
	}()
	var mu sync.Mutex
	var failed error
	err = l.campaign(ctx, []string{"SABOTAGE=" + name}, func(res result, err error) bool {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = err
			return false
		}
		if !slices.ContainsFunc(res.Violations, broken(breaks)) {
			return first == nil
		}
		if first == nil || res.Seed < first.Seed {
			first = &res
		}
		return false
	})
	if err == nil && first == nil {
		err = failed
	}
	return first, err
}

// invariants lists those that were broken, each once.
func invariants(res *result) string {
	var names []string
	seen := make(map[string]int)
	for _, v := range res.Violations {
		if seen[v.Invariant]++; seen[v.Invariant] == 1 {
			names = append(names, v.Invariant)
		}
	}
	return strings.Join(names, ", ")
}

// writeTable writes a table to the file of --table, with what it was made on.
func (l *lab) writeTable(title, table string) error {
	if l.cfg.Table == "" {
		return nil
	}
	f, err := os.Create(l.cfg.Table)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	m := l.cfg.machine(context.Background())
	_, err = io.WriteString(f, fmt.Sprintf("# %s\n\nMade by `%s`\non %s, commit %s: %d cores, %s, %s, %s, PostgreSQL %s.\n\n%s",
		title, m.Command, m.Date.Format("2 January 2006"), m.Commit, m.Cores, m.Memory, m.Kernel, m.Go, m.PostgreSQL, table))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
