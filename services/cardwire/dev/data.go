package dev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// openData makes the data directory if it is missing and takes it for this
// process. The kernel gives it back when the process ends, however it ends.
func openData(dir string) (*os.File, error) {
	// Others can't look into it. Root's PostgreSQL runs as another user, which
	// must be able to pass through to its own directory; secrets and broker
	// have directories that only root can enter.
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is used by another cardwire dev: stop that, or set DATA to another directory", dir)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}

// findNATSConf returns the path of nats.conf: the one in the working directory,
// or else the one at the top of the repository that the working directory or
// this program is in.
func findNATSConf() (string, error) {
	const name = "nats.conf"
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if file := filepath.Join(wd, name); exists(file) {
		return file, nil
	}
	from := []string{wd}
	if program, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			program = real
		}
		from = append(from, filepath.Dir(program))
	}
	for _, dir := range from {
		for ; ; dir = filepath.Dir(dir) {
			if file := filepath.Join(dir, name); exists(file) && exists(filepath.Join(dir, "go.work")) {
				return file, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("find %s: it is not in %s, nor in a repository that this or the program is in: name it with --nats-conf", name, wd)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
