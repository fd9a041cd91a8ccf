package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/rs/zerolog"
)

// memoryDir is a file system in memory on Linux, minMemory what must be free in
// it: a cluster takes 40 MB, its log up to 300, each database 8. In containers
// it often has 64 MB in all.
const (
	memoryDir = "/dev/shm"
	minMemory = 1 << 30
)

// A Throwaway is a server whose data is gone when it is closed, or when this
// process ends in whatever way: a watching shell process then stops it and
// removes its files.
type Throwaway struct {
	*Server
	dir   string
	watch *exec.Cmd
	alive io.Closer // open as long as this process lives; must stay referenced
}

// NewThrowaway starts a server with settings for speed on a new directory, in
// memory where that is possible. It takes the PostgreSQL that [Ensure] gets.
func NewThrowaway(ctx context.Context, log zerolog.Logger) (*Throwaway, error) {
	return NewThrowawayIn(ctx, throwawayBase(), log)
}

// NewThrowawayIn is [NewThrowaway] with a new directory in base. Started by root, the
// server runs as another user, who must be able to enter base.
func NewThrowawayIn(ctx context.Context, base string, log zerolog.Logger) (*Throwaway, error) {
	bin, err := Ensure(ctx, Options{Log: log})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(base, "cardwire-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for a throwaway PostgreSQL: %w", err)
	}
	t := &Throwaway{dir: dir}
	if err := t.startWatch(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	t.Server, err = Start(ctx, Config{Bin: bin, Dir: dir, Throwaway: true, Log: log})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close stops the server at once and removes its files.
func (t *Throwaway) Close() error {
	var err error
	if t.Server != nil {
		err = t.StopNow()
	}
	return errors.Join(err, os.RemoveAll(t.dir), os.RemoveAll(relocated(t.dir)), t.alive.Close(), t.watch.Wait())
}

// watchScript waits until its input ends, which is when this process closes it
// or dies. Then it stops the server, if one still runs, and removes the files.
const watchScript = `
read -r _
for dir in "$@"; do
	pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)
	if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
		for i in 1 2 3 4 5 6 7 8 9 10; do
			kill -0 "$pid" 2>/dev/null || break
			sleep 1
		done
	fi
	rm -rf "$dir"
done
`

// startWatch starts the process that cleans up after this one.
func (t *Throwaway) startWatch() error {
	t.watch = exec.Command("/bin/sh", "-c", watchScript, "sh", t.dir, relocated(t.dir))
	t.watch.Dir = "/"
	t.watch.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C on the terminal must not end it
	var err error
	if t.alive, err = t.watch.StdinPipe(); err == nil {
		err = t.watch.Start()
	}
	if err != nil {
		return fmt.Errorf("watch over a throwaway PostgreSQL: %w", err)
	}
	return nil
}

// throwawayBase returns the directory to put throwaway data in.
func throwawayBase() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &fs); err != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < minMemory {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(memoryDir, "cardwire-probe-")
	if err != nil {
		return os.TempDir()
	}
	_ = os.Remove(probe)
	return memoryDir
}
