package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// stopOrphan stops the server that a process which was killed left running on
// the data; the caller holds the directory's lock, so nobody uses it any more.
// It reports whether there are traces of an unclean end. A pid file whose
// process id now belongs to some other program is removed, which would
// otherwise stop the start.
func (c cluster) stopOrphan(ctx context.Context, log zerolog.Logger) (orphaned bool, err error) {
	file := filepath.Join(c.data, "postmaster.pid")
	pid, err := readPID(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if !c.runs(pid) {
		// PostgreSQL itself sees that a file is stale unless its id is in use.
		if pid == 0 || syscall.Kill(pid, 0) == nil {
			if err := os.Remove(file); err != nil {
				return true, fmt.Errorf("remove a stale pid file: %w", err)
			}
		}
		return true, nil
	}
	log.Warn().Str("dir", c.home).Int("pid", pid).Msg("stopping the PostgreSQL that an earlier run left behind")
	for _, step := range []struct {
		sig   syscall.Signal
		bound time.Duration
	}{{syscall.SIGINT, stopTimeout}, {syscall.SIGQUIT, quitTimeout}} {
		if err := syscall.Kill(pid, step.sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return true, fmt.Errorf("stop PostgreSQL with process id %d: %w", pid, err)
		}
		if c.awaitEnd(ctx, pid, step.bound) {
			return true, nil
		}
	}
	return true, fmt.Errorf("stop PostgreSQL with process id %d, left by an earlier run: it doesn't end", pid)
}

// awaitEnd polls until the server of that pid has ended; false after bound. It
// isn't our child, so there is nothing to wait on.
func (c cluster) awaitEnd(ctx context.Context, pid int, bound time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for c.runs(pid) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(answerPoll):
		}
	}
	return true
}

// runs reports whether pid is the server of this cluster. A zombie isn't.
func (c cluster) runs(pid int) bool {
	if pid <= 0 {
		return false
	}
	args := commandLine(pid)
	return strings.Contains(args, "postgres") && strings.Contains(args, c.data)
}

// readPID reads a postmaster.pid, whose first line is the process id; 0 when it
// holds none, as after a full disk.
func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read PostgreSQL's pid file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	return max(pid, 0), nil
}
