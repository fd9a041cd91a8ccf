package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A process is one run of postgres.
type process struct {
	cmd      *exec.Cmd
	pid      int
	logStart int64         // where in the log this run begins
	stopping atomic.Bool   // we asked it to end
	done     chan struct{} // closed when it has ended
	err      error         // how it ended; valid once done is closed
}

// startProcess starts cmd. One goroutine starts it and waits for it, on one
// thread: the kernel's parent-death signal goes out when the *thread* that
// forked ends, which the Go runtime may do at any time to a thread it owns.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, after the process
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		if p.err = cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// shutdown sends sig and waits until the process has ended; it is an error when
// bound passes or giveUp is closed before that.
func (p *process) shutdown(giveUp <-chan struct{}, sig syscall.Signal, bound time.Duration) error {
	p.stopping.Store(true)
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-giveUp:
	case <-timer.C:
	}
	return fmt.Errorf("process %d goes on after signal %q", p.pid, sig)
}
