// Package child runs the processes that a measurement or a crash lab is about.
package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A Child is a process that this one started. What it logs goes to a file, as it
// would where it is run for good.
type Child struct {
	Name     string
	PID      int
	Log      string // path of its log
	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{} // closed when it has ended
	err      error         // how it ended; valid once done is closed
}

// poll is the pause between two looks at something that cannot tell by itself.
const poll = 10 * time.Millisecond

// Start starts cmd with its stderr in dir. It dies with this process.
func Start(dir, name string, cmd *exec.Cmd) (*Child, error) {
	c := &Child{Name: name, cmd: cmd, Log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stderr, cmd.SysProcAttr = log, attr()
	started := make(chan error)
	go func() {
		defer close(c.done)
		// The kernel tells a child of its parent's death when the thread that
		// forked ends: it stays with this goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			c.PID = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// Stop kills the child: nothing of it is kept.
func (c *Child) Stop() {
	c.stopping.Store(true)
	_ = c.cmd.Process.Kill()
	<-c.done
}

// Watch calls failed if the child ends by itself.
func (c *Child) Watch(failed func(error)) {
	<-c.done
	if !c.stopping.Load() {
		failed(fmt.Errorf("%s ended by itself: %w; its log ends with:\n%s", c.Name, errors.Join(c.err), c.Tail()))
	}
}

// AwaitLine waits for the line of the child's log with a given message, and
// reads its members into out.
func (c *Child) AwaitLine(ctx context.Context, message string, out any) error {
	for {
		text, err := os.ReadFile(c.Log)
		if err != nil {
			return fmt.Errorf("read log of %s: %w", c.Name, err)
		}
		for line := range bytes.Lines(text) {
			var l struct {
				Message string `json:"message"`
			}
			if json.Unmarshal(line, &l) == nil && l.Message == message {
				return json.Unmarshal(line, out)
			}
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended at its start: %w; its log ends with:\n%s", c.Name, errors.Join(c.err), c.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log ends with:\n%s", c.Name, context.Cause(ctx), c.Tail())
		case <-time.After(poll):
		}
	}
}

// Tail is the end of the child's log.
func (c *Child) Tail() []byte {
	const most = 2 << 10
	text, err := os.ReadFile(c.Log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-most):]
}

// Signal sends the child a signal, unless it has ended.
func (c *Child) Signal(sig os.Signal) { _ = c.cmd.Process.Signal(sig) }

// Expect says that the child is about to end, and may.
func (c *Child) Expect() { c.stopping.Store(true) }

// Done closes when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Terminate tells the child to stop and waits until it has. If that takes
// longer than grace, it is killed, and the answer is false.
func (c *Child) Terminate(grace time.Duration) bool {
	c.stopping.Store(true)
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
		return true
	case <-t.C:
		c.Stop()
		return false
	}
}
