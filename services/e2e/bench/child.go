package main

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
	"time"
)

// A child is a process that is measured. What it logs goes to a file, as it
// would where it is run for good.
type child struct {
	name     string
	pid      int
	log      string // path of its log
	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{} // closed when it has ended
	err      error         // how it ended; valid once done is closed
}

// poll is the pause between two looks at something that cannot tell by itself.
const poll = 10 * time.Millisecond

// startChild starts cmd with its stderr in dir. It dies with this process.
func startChild(dir, name string, cmd *exec.Cmd) (*child, error) {
	c := &child{name: name, cmd: cmd, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	cmd.Stderr, cmd.SysProcAttr = log, childAttr()
	started := make(chan error)
	go func() {
		defer close(c.done)
		// The kernel tells a child of its parent's death when the thread that
		// forked ends: it stays with this goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
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

// stop kills the child: nothing of it is kept.
func (c *child) stop() {
	c.stopping.Store(true)
	_ = c.cmd.Process.Kill()
	<-c.done
}

// watch calls failed if the child ends by itself.
func (c *child) watch(failed func(error)) {
	<-c.done
	if !c.stopping.Load() {
		failed(fmt.Errorf("%s ended by itself: %w; its log ends with:\n%s", c.name, errors.Join(c.err), c.tail()))
	}
}

// awaitLine waits for the line of the child's log with a given message, and
// reads its members into out.
func (c *child) awaitLine(ctx context.Context, message string, out any) error {
	for {
		text, err := os.ReadFile(c.log)
		if err != nil {
			return fmt.Errorf("read log of %s: %w", c.name, err)
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
			return fmt.Errorf("%s ended at its start: %w; its log ends with:\n%s", c.name, errors.Join(c.err), c.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log ends with:\n%s", c.name, context.Cause(ctx), c.tail())
		case <-time.After(poll):
		}
	}
}

// tail is the end of the child's log.
func (c *child) tail() []byte {
	const most = 2 << 10
	text, err := os.ReadFile(c.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-most):]
}
